"""Fit of a learner's `Calibration` on validation tasks: epistemic spread, temperature, `unknown`, prediction sets.

Everything is fitted across ways and shots at once as a small function of the task, in that order, because each
reads the answers of the ones before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.bayes.calibration import LEVELS, SHOT_EDGES, UNKNOWN_TERMS, WAY_EDGES, Calibration, bins
from models.data.dataset import DatasetError
from models.evaluation.episodic import SAMPLES, Batch, Cell, Features, answers, cells_of
from models.evaluation.resampled_disagreement import disagreement
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import MetaLearner, Traits

_WAYS = (2, 5, 10, 20, 40, 100)
_SHOTS = (1, 2, 5, 10)
_GOLD_SHOTS = (1, 2, 5, 10)
_GOLD_MAX_WAY = 20
_QUERIES = 5
_GOLD_QUERIES = 3
_REFERENCE_WAY = 5
_MOST_ROUNDS = 6
_TOLERATED = 0.02
"""Share by which the NLL may rise for the sake of the epistemic part."""
_SETTLED = 0.1
"""A move of the log spread after which no more are made."""
_NUDGE = 0.1
"""Trial step of the log spread, to measure its effect."""
_SLOPES = (1.0, 8.0)
"""Bounds on the slope of log(epistemic part / disagreement) by the log spread; 2 for a linear head."""
_MOST_MOVE = 0.75
_RIDGE = 1e-3


@dataclass(frozen=True)
class CalibrationPlan:
    """Tasks per cell (at 5 ways), per check against disagreement, per conformal bin (0: sets of plain mass).

    Each fit draws its own."""

    tasks: int = 100
    gold_tasks: int = 60
    set_tasks: int = 1000
    seed: int = 20
    most_way: int = 100


def calibrate(learner: MetaLearner, spaces: Sequence[Features], plan: CalibrationPlan) -> None:
    """Set the buffers of `learner.calibration` in place. `spaces` are embedded sets of validation classes."""
    calibration = learner.calibration
    if calibration is None:
        raise TypeError(f"{type(learner).__name__} has nothing to calibrate")
    if not any(_cells(learner.traits, features, plan.most_way) for features in spaces):
        raise DatasetError(f"the validation classes are too few or too small for {learner.traits.ways} ways")
    nll = _fit_temperature(learner, calibration, spaces, plan)
    if learner.traits.stochastic:
        _fit_spread(learner, calibration, spaces, plan, nll * (1 + _TOLERATED))
    _fit_unknown(learner, calibration, spaces, plan)
    if plan.set_tasks:
        _fit_sets(learner, calibration, spaces, plan)


def _fit_spread(
    learner: MetaLearner,
    calibration: Calibration,
    spaces: Sequence[Features],
    plan: CalibrationPlan,
    most_nll: float,
) -> None:
    """Fit spread and temperature in turn until the spread settles or a round would cost more than `most_nll`.

    A posterior of the wrong shape can be made wide enough, but its answers get worse.
    """
    for _ in range(_MOST_ROUNDS):
        before = calibration.epistemic, calibration.temperature
        moved = _fit_epistemic(learner, calibration, spaces, plan)
        if _fit_temperature(learner, calibration, spaces, plan) > most_nll:
            calibration.epistemic, calibration.temperature = before
            return
        if moved < _SETTLED:
            return


def _cells(traits: Traits, features: Features, most_way: int) -> list[Cell]:
    """Return the ways and shots that learner and data allow, half of the queries foreign."""
    # Small classes have fewer queries, so that some examples remain for the support set.
    queries = max(1, min(_QUERIES, features.smallest - 2))
    return [
        replace(cell, foreign=cell.way * queries)
        for cell in cells_of(traits, _WAYS, _SHOTS, queries)
        if cell.way <= most_way and cell.way < len(features.members) and features.hold(cell)
    ]


def _batches(
    learner: MetaLearner, spaces: Sequence[Features], plan: CalibrationPlan, seed: int, foreign: bool
) -> list[Batch]:
    """Answer the tasks of each cell, shared out over the spaces; fewer of many ways, which have more queries."""
    found = []
    for features in spaces:
        for cell in _cells(learner.traits, features, plan.most_way):
            measured = cell if foreign else replace(cell, foreign=0)
            share = max(2, plan.tasks * _REFERENCE_WAY // (cell.way * len(spaces)))
            found += list(answers(learner, features, measured, share, seed))
    return found


def _fit_temperature(
    learner: MetaLearner, calibration: Calibration, spaces: Sequence[Features], plan: CalibrationPlan
) -> float:
    """Fit the temperature to the least NLL over log way, by LBFGS through `predict`; return that NLL."""
    batches = _batches(learner, spaces, plan, plan.seed, foreign=False)
    noise = Noise(SAMPLES) if learner.traits.stochastic else None
    start = calibration.temperature.clone()
    free = start.clone().requires_grad_()

    def objective() -> Tensor:
        calibration.temperature = free
        total = torch.zeros(())
        for batch in batches:
            answer = learner.predict(batch.weights, batch.query, noise)
            assert isinstance(answer, Categorical)
            picked = answer.log_probs.gather(-1, batch.target.clamp_min(0)[..., None])[batch.known]
            total = total - picked.mean() / math.log(int(batch.weights.n_way[0]))
        return total / len(batches) + _RIDGE * free[1:].square().sum()

    least = _minimise(free, objective)
    calibration.temperature = free.detach().clone()
    return least


def _fit_epistemic(
    learner: MetaLearner, calibration: Calibration, spaces: Sequence[Features], plan: CalibrationPlan
) -> float:
    """Move the log spread until the mean epistemic part meets the mean disagreement in every cell; return the move.

    A Newton step per cell, its slope by a finite difference: MI is quadratic in the spread of a linear head, but far
    steeper if hidden units are drawn, and disagreement falls as it rises. The moves are fitted by least squares.
    """
    rows, moves = [], []
    start = calibration.epistemic
    nudged = start.clone()
    nudged[0] += _NUDGE
    cells = [
        (features, Cell(cell.way, cell.shot, max(1, min(_GOLD_QUERIES, features.smallest - cell.shot - 1))))
        for features in spaces
        for cell in _cells(learner.traits, features, plan.most_way)
        if cell.shot in _GOLD_SHOTS and cell.way <= _GOLD_MAX_WAY
    ]
    for features, cell in cells:
        excess = []
        for spread in (start, nudged):
            calibration.epistemic = spread
            found = disagreement(learner, features, cell, plan.gold_tasks, plan.seed + 1)
            least = found.epistemic.mean().clamp_min(1e-6), found.disagreement.mean().clamp_min(1e-6)
            excess.append(least[0].log() - least[1].log())
        slope = ((excess[1] - excess[0]) / _NUDGE).clamp(*_SLOPES)
        rows.append(found.terms.mean(0))
        moves.append((-excess[0] / slope).clamp(-_MOST_MOVE, _MOST_MOVE))
    terms, move = torch.stack(rows).double(), torch.stack(moves).double()
    ridge = _RIDGE * len(rows) * torch.eye(terms.shape[1], dtype=torch.double)
    step = torch.linalg.solve(terms.T @ terms + ridge, terms.T @ move)
    calibration.epistemic = start + step.float()
    return float((terms @ step).abs().max())


def _fit_unknown(
    learner: MetaLearner, calibration: Calibration, spaces: Sequence[Features], plan: CalibrationPlan
) -> None:
    """Fit a logistic regression of foreign against known on (novelty, task terms), all tasks of equal weight."""
    scores, terms, foreign = [], [], []
    for batch in _batches(learner, spaces, plan, plan.seed + 2, foreign=True):
        assert batch.answer.novelty is not None
        queries = batch.target.shape[1]
        scores.append(batch.answer.novelty.flatten())
        terms.append(batch.weights.task["terms"].repeat_interleave(queries, 0))
        foreign.append((~batch.known).flatten())
    score, task, positive = torch.cat(scores), torch.cat(terms), torch.cat(foreign).float()
    scale = score.std().clamp_min(1e-6)
    inputs = torch.cat((score[:, None] / scale, task), dim=1)
    free = torch.zeros(UNKNOWN_TERMS, requires_grad=True)
    weight = torch.cat([torch.full_like(s, 1 / len(s)) for s in scores])
    weight = weight / weight.sum()

    def objective() -> Tensor:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ free, positive, reduction="none")
        return (weight * loss).sum() + 1e-5 * free.square().sum()

    _minimise(free, objective)
    fitted = free.detach().clone()
    fitted[0] /= scale
    calibration.unknown_weight = fitted
    calibration.has_unknown = torch.ones((), dtype=torch.bool)


def _fit_sets(
    learner: MetaLearner, calibration: Calibration, spaces: Sequence[Features], plan: CalibrationPlan
) -> None:
    """Fit conformal quantiles of the mass above the right class, one query per task, in bins of way × shot.

    With n tasks the level is the ⌈(n+1)·coverage⌉-th smallest; bins that the data cannot fill take the widest
    sets: the whole mass.
    """
    scores: dict[tuple[int, int], list[Tensor]] = {}
    share = max(1, plan.set_tasks // (2 * len(spaces)))
    cells = [
        (features, Cell(c.way, c.shot, 1))
        for features in spaces
        for c in _cells(learner.traits, features, plan.most_way)
    ]
    for features, cell in cells:
        for batch in answers(learner, features, cell, share, plan.seed + 3):
            chosen = torch.arange(len(batch.target)) % cell.way
            rows = torch.arange(len(batch.target))
            mass = batch.answer.mass_above()[rows, chosen, chosen]
            way, shot = bins(batch.weights.task["terms"])
            scores.setdefault((int(way[0]), int(shot[0])), []).append(mass)
    table = torch.ones(len(WAY_EDGES), len(SHOT_EDGES), LEVELS)
    for (way_bin, shot_bin), found in scores.items():
        table[way_bin, shot_bin] = _quantiles(torch.cat(found))
    calibration.set_quantiles = table
    calibration.has_sets = torch.ones((), dtype=torch.bool)


def _quantiles(scores: Float[Tensor, "n"]) -> Float[Tensor, "levels"]:
    ordered = torch.cat((scores.sort().values, torch.ones(1)))
    coverage = torch.arange(LEVELS, dtype=torch.double) / (LEVELS - 1)
    rank = ((len(scores) + 1) * coverage - 1e-9).ceil().long().clamp(1, len(ordered))
    return ordered[rank - 1]


def _minimise(free: Tensor, objective: Callable[[], Tensor]) -> float:
    """Move `free` to the minimum of the objective; return its value.

    A line search may leave the range of floats, as with a learner that has hardly been trained: then the best finite
    point that it passed is the minimum.
    """
    optimiser = torch.optim.LBFGS([free], max_iter=12, line_search_fn="strong_wolfe")
    best, least = free.detach().clone(), math.inf

    def closure() -> Tensor:
        nonlocal best, least
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = objective()
            loss.backward()
        if loss.item() < least and bool(free.isfinite().all()):
            best, least = free.detach().clone(), loss.item()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        final = float(objective())
        if not (math.isfinite(final) and bool(free.isfinite().all())):
            free.copy_(best)
            final = float(objective())
        return final
