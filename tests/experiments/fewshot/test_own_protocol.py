"""The protocol of unseen data: pairing, baselines on the learner's own features, uncertainty, determinism."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.cli.zoo import learner_at
from experiments.fewshot import own_page, own_protocol
from experiments.fewshot.baseline_runs import Runner, runner
from experiments.fewshot.own_features import own_features, refusal
from experiments.fewshot.own_protocol import OwnPlan
from models.data.dataset import DatasetError
from models.data.examples import RawExamples, open_examples
from models.evaluation.episodic import Cell, accuracy, answers
from models.protocol import Span, Support, TaskWeights
from models.registry import build
from tests.models.glyph_data import glyphs

PLAN = OwnPlan(tasks=6, seed=5)


def silent(done: int, total: int, note: str) -> None:
    assert 0 <= done <= total, note


def vectors(classes: int = 7, examples: int = 26, dim: int = 12, unit: bool = True) -> RawExamples:
    rng = np.random.default_rng(1)
    labels = np.arange(classes).repeat(examples)
    rows = rng.standard_normal((classes, dim))[labels] + 0.7 * rng.standard_normal((len(labels), dim))
    if unit:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = tuple(f"c{one}" for one in range(classes))
    stored = list(rows.astype(np.float32))
    return RawExamples("made", "vector", stored, labels, names, lambda x: x, lambda x: x.tobytes())


@pytest.fixture(scope="module")
def baselines() -> Iterator[Runner]:
    with runner(1) as made:
        yield made


@pytest.fixture(scope="module")
def found(baselines: Runner) -> dict[str, Any]:
    return own_protocol.evaluate([learner_at("vectors")], vectors(), PLAN, baselines, silent)


def test_the_learner_answers_the_tasks_of_every_protocol(found: dict[str, Any]) -> None:
    """Figures are those of `answers` with the same seed: tasks are the same whoever answers them."""
    learner, examples = learner_at("vectors"), vectors()
    features = own_features([learner], examples).by_learner["vectors"]
    per_task = torch.cat(
        [accuracy(batch) for batch in answers(learner.learner, features, Cell(5, 5), PLAN.tasks, PLAN.seed)]
    )
    cell = next(cell for cell in found["cells"] if (cell["way"], cell["shot"]) == (5, 5))
    assert cell["learners"]["vectors"]["accuracy"]["mean"] == pytest.approx(float(per_task.mean()))
    assert cell["learners"]["vectors"]["accuracy"]["n"] == PLAN.tasks


def test_differences_are_paired_and_end_with_the_best(found: dict[str, Any]) -> None:
    for cell in found["cells"]:
        mine = cell["learners"]["vectors"]
        by_name = {row["baseline"]: row for row in cell["baselines"] if row["accuracy"] is not None}
        for row in cell["differences"][:-1]:
            other = by_name[row["against"]]
            expected = mine["accuracy"]["mean"] - other["accuracy"]["mean"]
            assert row["accuracy"]["mean"] == pytest.approx(expected)
            assert (row["nll"] is None) == (other["nll"] is None)
        best = cell["differences"][-1]
        assert best["against"] == "best"
        highest = max(row["accuracy"]["mean"] for row in by_name.values())
        assert best["accuracy"]["mean"] == pytest.approx(mine["accuracy"]["mean"] - highest)
        likely = min(row["nll"]["mean"] for row in by_name.values() if row["nll"] is not None)
        assert best["nll"]["mean"] == pytest.approx(mine["nll"]["mean"] - likely)


def test_the_centroid_of_protonet_is_the_baseline(baselines: Runner) -> None:
    """On unit rows both are the nearest class mean, up to the norm of the means."""
    bundled = learner_at("vectors")
    config = bundled.config.model_copy(update={"method": "protonet", "hparams": {"metric": "auto"}})
    protonet = replace(bundled, config=config, learner=build(config).eval().requires_grad_(False))
    cell = own_protocol.evaluate([protonet], vectors(), PLAN, baselines, silent)["cells"][0]
    assert (cell["way"], cell["shot"]) == (5, 1)
    centroid = next(row for row in cell["differences"] if row["against"] == "centroid")
    assert centroid["accuracy"]["mean"] == pytest.approx(0, abs=1e-6)


def test_uncertainty_has_every_figure(found: dict[str, Any]) -> None:
    row = found["cells"][0]["learners"]["vectors"]
    assert row["sets"]["asked"] == 0.9
    assert row["unknown"]["way"] == 5
    assert 0 <= row["unknown"]["known_refused"]["mean"] <= 1
    assert row["unknown"]["auroc_pooled"] > 0.5
    assert row["epistemic"]["ratio"] > 0
    assert row["fit"] is None
    page = own_page.page({**found, "learners": ["vectors"], "command": "hyperserve", "versions": "0"})
    assert "| **vectors** " in page
    assert "**best baseline**" in page
    assert "rows of unit length" in page


def test_the_same_seed_gives_the_same_figures(baselines: Runner) -> None:
    learners, data = [learner_at("vectors")], vectors(4, 7, 6)
    one, same, other = (
        own_protocol.evaluate(learners, data, OwnPlan(tasks=2, seed=seed), baselines, silent)
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one["cells"] != other["cells"]


def test_columns_of_any_norm_are_a_table() -> None:
    (space,) = own_features([learner_at("vectors")], vectors(unit=False)).spaces
    assert (space.name, space.scaling, space.rows.shape) == ("columns", "table", (182, 12))


def test_pictures_have_the_features_of_each_learner_and_pixels(drawn: Path, baselines: Runner) -> None:
    learners = [learner_at("glyphs"), learner_at("hypershot")]
    with open_examples(drawn) as examples:
        found = own_protocol.evaluate(learners, examples, OwnPlan(tasks=4), baselines, silent)
    names = [space["name"] for space in found["feature_spaces"]]
    assert names == ["features of glyphs", "features of hypershot", "pixels"]
    first, last = found["cells"][0], found["cells"][-1]
    assert set(first["learners"]) == {"glyphs", "hypershot"}
    assert last["way"] == 6
    assert set(last["learners"]) == {"glyphs"}, "hypershot takes 5 ways"
    assert first["learners"]["glyphs"]["epistemic"]["tasks"] == 4
    against = [(row["learner"], row["against"], row["features"]) for row in first["differences"]]
    assert ("glyphs", "centroid", "pixels") in against
    assert ("hypershot", "SVM", "features of hypershot") in against
    assert ("hypershot", "SVM", "features of glyphs") not in against
    assert against[-1] == ("hypershot", "learner", "glyphs")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of nine drawn pictures, as an npz."""
    data = glyphs(classes=6, examples=7, side=28)
    path = tmp_path_factory.mktemp("drawn") / "drawn.npz"
    np.savez(path, image=data.inputs.numpy(), label=data.labels.numpy())
    return path


def test_the_domain_check_of_a_learner_is_summed_up(
    baselines: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = learner_at("vectors")
    adapt = found.learner.adapt

    def checked(support: Support) -> TaskWeights:
        weights = adapt(support)
        return replace(weights, task={**weights.task, "fit": torch.linspace(0, 1, len(support.n_way))})

    monkeypatch.setattr(found.learner, "adapt", checked)
    figures = own_protocol.evaluate([found], vectors(4, 4, 6), OwnPlan(tasks=5), baselines, silent)
    fit = figures["cells"][0]["learners"]["vectors"]["fit"]
    assert fit["mean"] == pytest.approx(0.5)
    assert fit["quantiles"]["0.25"] == pytest.approx(0.25)


def test_what_does_not_fit_is_refused(baselines: Runner, drawn: Path) -> None:
    with open_examples(drawn) as pictures:
        assert refusal(learner_at("vectors"), pictures) == "vectors takes vectors, drawn.npz holds images"
        assert refusal(learner_at("glyphs"), pictures) is None
    assert refusal(learner_at("sinusoid"), vectors()) == "sinusoid does not classify"
    assert Span(5, 5) == learner_at("hypershot").learner.traits.ways
    with pytest.raises(DatasetError, match="no task can be drawn"):
        own_protocol.evaluate([learner_at("vectors")], vectors(examples=1), PLAN, baselines, silent)
