"""Regression beside scikit-learn: the same tasks for all, baselines kept, differences of the right sign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.errors import ExperimentError
from experiments.fewshot.regression_baselines import baselines
from experiments.fewshot.regression_protocol import RIVAL, Scores, measured, scores, verdict
from experiments.fewshot.regression_tasks import SHOTS, RegressionTask, TaskSet, function_sets, table_sets
from models.encoders.identity import Identity, IdentityConfig
from models.fewshot.bayes_linear import BayesLinear, BayesLinearConfig
from models.fewshot.gaussian_process import GaussianProcessConfig, GaussianProcessLearner

ENCODER = Identity(IdentityConfig())


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    x = np.hstack((rng.normal(size=(90, 2)), np.ones((90, 1))))
    file = tmp_path_factory.mktemp("tables") / "tables.npz"
    np.savez(file, lines_x=x, lines_y=5 * x[:, 0] + 3, few_x=x[:20], few_y=x[:20, 0])
    return file


def test_functions_have_a_deviation_of_1_and_are_the_same_again() -> None:
    sets = list(function_sets(2, 0))
    assert {one.shot for one in sets} == set(SHOTS)
    assert {one.dim for one in sets} == {1, 4, 10}
    again = list(function_sets(2, 0))
    for one, other in zip(sets, again, strict=True):
        first = one.tasks[0]
        assert len(first.support_y) == one.shot
        assert np.array_equal(first.query_y, other.tasks[0].query_y)
        values = np.concatenate((first.support_y, first.query_y))
        assert 0.5 < values.std() < 20 or one.name.startswith("step")


def test_rows_of_tables(table: Path) -> None:
    (only,) = table_sets(table, [], 3, 0, (50, 200))
    assert (only.name, only.shot, only.dim, len(only.tasks)) == ("lines", 50, 2, 3)
    assert len(only.tasks[0].query_y) == 40
    with pytest.raises(ExperimentError, match="no table 'lime'; it holds lines, few"):
        list(table_sets(table, ["lime"], 1, 0, (50,)))


def test_learners_and_baselines_are_paired(table: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = GaussianProcessLearner(ENCODER, GaussianProcessConfig(width=8, steps=2)).eval()
        curves = BayesLinear(ENCODER, BayesLinearConfig(width=8, features=4)).eval()
    sets = [TaskSet(one.name, one.shot, one.tasks[:2]) for one in table_sets(table, [], 2, 0, (50,))]
    for _ in range(2):
        said: list[str] = []
        found = measured({"ours": ours, "curves": curves}, baselines(0, tmp_path), sets, said.append)
        assert said == ["lines, 50 examples"]
        assert len(list(tmp_path.iterdir())) == 2
    by = {row["by"]: row for row in found["rows"]}
    assert set(by) == {"ours", RIVAL, "ridge"}
    assert by["ridge"]["mse"]["mean"] < 1e-4
    assert by["ours"]["mse"]["mean"] < 0.1
    (difference,) = found["differences"]
    expected = by["ours"]["mse"]["mean"] - by[RIVAL]["mse"]["mean"]
    assert difference["mse"]["mean"] == pytest.approx(expected)
    assert difference["times_faster"] > 0


def test_scores_of_known_answers() -> None:
    from experiments.fewshot.regression_baselines import Fitted

    rng = np.random.default_rng(0)
    task = RegressionTask(np.zeros((1, 1)), np.zeros(1), np.zeros((4000, 1)), rng.normal(size=4000))
    found: Scores = scores([Fitted(np.zeros(4000), np.ones(4000), 0.002)], [task])
    assert found.coverage[0] == pytest.approx(0.9, abs=0.02)
    assert found.nll[0] == pytest.approx(1.42, abs=0.05)
    assert found.width[0] == pytest.approx(3.29, abs=0.01)
    assert found.milliseconds == pytest.approx(2)


def test_the_verdict_counts_what_the_intervals_separate() -> None:
    rows = [
        {"mse": {"mean": mean, "ci95": 1.0}, "nll": {"mean": 0.0, "ci95": 0.1}}
        for mean in (-2.0, 0.5, 3.0, 1.5)
    ]
    found = verdict(rows)
    assert (found["mse_better"], found["mse_no_different"], found["mse_worse"]) == (1, 1, 2)
    assert found["nll_no_different"] == 4
