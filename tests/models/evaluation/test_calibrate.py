"""Calibration on a space whose truth is known: Gaussian classes, where ProtoNet needs temperature 2σ²."""

from functools import cache

import pytest
import torch

from models.bayes.calibration import Calibration, task_terms
from models.encoder_protocol import EncoderConfig
from models.encoders.identity import Identity
from models.evaluation.calibrate import CalibrationPlan, _fit_epistemic, _minimise, _quantiles, calibrate
from models.evaluation.episodic import Cell, Features, accuracy, answers, nll
from models.evaluation.resampled_disagreement import Disagreement, disagreement
from models.evaluation.scores import auroc, calibration_error, spearman
from models.fewshot.hyperset import HyperSet, HyperSetConfig
from models.fewshot.protonet import ProtoNet, ProtoNetConfig
from models.protocol import MetaLearner
from tests.shapes import unchecked

DIM, CLASSES, EXAMPLES = 8, 24, 24
PLAN = CalibrationPlan(tasks=8, gold_tasks=4, set_tasks=300)


def gaussian_space(seed: int, sigma: float = 3.0, classes: int = CLASSES) -> Features:
    generator = torch.Generator().manual_seed(seed)
    means = 4 * torch.randn((classes, 1, DIM), generator=generator)
    values = means + sigma * torch.randn((classes, EXAMPLES, DIM), generator=generator)
    members = [m.numpy() for m in torch.arange(classes * EXAMPLES).split(EXAMPLES)]
    return Features(values.flatten(0, 1), members, torch.zeros(classes, dtype=torch.long).numpy())


def learner_of(method: str) -> MetaLearner:
    torch.manual_seed(0)
    encoder = Identity(EncoderConfig())
    if method == "protonet":
        return ProtoNet(encoder, ProtoNetConfig()).eval().requires_grad_(False)
    encoder.dim = DIM
    return HyperSet(encoder, HyperSetConfig(width=16)).eval().requires_grad_(False)


def measure(learner: MetaLearner, cell: Cell) -> tuple[float, float, float]:
    """Accuracy, NLL and calibration error on a space that calibration has not seen."""
    batches = list(answers(learner, gaussian_space(9), cell, 200, seed=5))
    confidence, label = torch.cat([b.answer.probabilities.flatten(0, 1) for b in batches]).max(-1)
    right = label == torch.cat([b.target.flatten() for b in batches])
    loss = torch.cat([nll(b) for b in batches]).mean()
    return (
        float(torch.cat([accuracy(b) for b in batches]).mean()),
        float(loss),
        calibration_error(confidence, right),
    )


@cache
def calibrated(method: str) -> MetaLearner:
    learner = learner_of(method)
    with unchecked():
        calibrate(learner, [gaussian_space(1), gaussian_space(2)], PLAN)
    return learner


@pytest.mark.parametrize("method", ["protonet", "hyperset"])
def test_calibration_makes_probabilities_honest(method: str) -> None:
    cell = Cell(5, 2)
    before = measure(learner_of(method), cell)
    after = measure(calibrated(method), cell)
    assert after[0] >= before[0] - 0.02, "it may sharpen, not decide"
    assert after[1] < before[1]
    assert after[2] < 0.04


def test_unknown_prediction_sets_and_epistemic_hold_on_new_tasks() -> None:
    learner = calibrated("hyperset")
    covered, unknown, foreign = [], [], []
    for batch in answers(learner, gaussian_space(9), Cell(5, 5, 5, foreign=25), 100, seed=5):
        sets = batch.answer.prediction_sets(0.9)
        assert bool(sets.any(-1).all())
        covered.append(sets.gather(-1, batch.target.clamp_min(0)[..., None])[..., 0][batch.known])
        assert batch.answer.unknown is not None
        unknown.append(batch.answer.unknown.flatten())
        foreign.append(~batch.known.flatten())
    assert float(torch.cat(covered).float().mean()) > 0.87
    assert auroc(torch.cat(unknown), torch.cat(foreign)) > 0.7
    found = disagreement(learner, gaussian_space(9), Cell(5, 1, 3), 10, seed=1)
    assert 0.5 < float(found.disagreement.mean() / found.epistemic.mean()) < 2
    assert spearman(found.epistemic, found.disagreement) > 0.4


@pytest.mark.parametrize("steepness", [2.0, 5.5])
def test_the_epistemic_part_meets_disagreement_however_steeply_it_rises(
    steepness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the spread may be a fiftieth of the epistemic part if hidden units are drawn."""

    def told(learner: MetaLearner, features: Features, cell: Cell, tasks: int, seed: int) -> Disagreement:
        terms = task_terms(torch.tensor([cell.way]), torch.full((1, cell.way), float(cell.shot)))
        assert isinstance(learner.calibration, Calibration)
        spread = learner.calibration.spread(terms)
        return Disagreement(0.2 / cell.shot * spread**-0.5, 0.05 * spread**steepness, terms)

    monkeypatch.setattr("models.evaluation.calibrate.disagreement", told)
    learner, space = learner_of("hyperset"), gaussian_space(1)
    assert isinstance(learner.calibration, Calibration)
    for _ in range(3):
        _fit_epistemic(learner, learner.calibration, [space], PLAN)
    for shot in (1, 5):
        found = told(learner, space, Cell(5, shot, 1), 1, 0)
        assert float(found.epistemic / found.disagreement) == pytest.approx(1, rel=0.1)


def test_answers_are_not_given_up_for_a_wider_epistemic_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_wide_enough(
        learner: MetaLearner, features: Features, cell: Cell, tasks: int, seed: int
    ) -> Disagreement:
        terms = task_terms(torch.tensor([cell.way]), torch.full((1, cell.way), float(cell.shot)))
        assert isinstance(learner.calibration, Calibration)
        return Disagreement(torch.ones(1), 1e-4 * learner.calibration.spread(terms) ** 2, terms)

    spaces = [gaussian_space(1, classes=CLASSES // 2)]
    honest, asked_for_more = learner_of("hyperset"), learner_of("hyperset")
    calibrate(honest, spaces, PLAN)
    monkeypatch.setattr("models.evaluation.calibrate.disagreement", never_wide_enough)
    calibrate(asked_for_more, spaces, PLAN)
    for shot in (1, 5):
        assert measure(asked_for_more, Cell(5, shot))[1] < 1.1 * measure(honest, Cell(5, shot))[1]


def test_the_conformal_quantile_is_the_ceiling_rank() -> None:
    """Nine tasks: the level for 90 % is the ninth smallest, and above that the whole mass."""
    scores = torch.arange(1, 10) / 10
    levels = _quantiles(scores)
    assert float(levels[180]) == pytest.approx(0.9)
    assert float(levels[181]) == 1
    assert float(levels[100]) == pytest.approx(0.5)


@pytest.mark.parametrize("beyond", [torch.nan, -torch.inf])
def test_a_fit_that_leaves_the_range_of_floats_ends_at_its_best_finite_point(beyond: float) -> None:
    free = torch.zeros(2, requires_grad=True)

    def objective() -> torch.Tensor:
        inside = -1e3 * free.sum()
        return inside if bool((free.abs() < 0.1).all()) else inside * beyond

    least = _minimise(free, objective)
    assert -200 <= least <= 0
    assert bool(free.isfinite().all())
