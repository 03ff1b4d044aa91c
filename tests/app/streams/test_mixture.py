"""The posterior over stream tasks and the answers of their networks make one prediction per query."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from app.streams.mixture import TaskPredictive, candidate_tasks, mixture_predictions
from hyperserve.stream_types import StreamPrediction
from models.continual.stream_config import Scenario
from models.predictive import Categorical

NAMES = ("a", "b", "c")
LABELS = (("a0", "a1"), ("b0", "b1", "b2"), ("c0", "c1"))
SHARED = (("no", "yes"),) * 3


def log(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).log()


def answered(
    gate: list[list[float]],
    networks: list[list[list[float]]],
    scenario: Scenario = "cl3",
    unknown: list[float] | None = None,
    top: int | None = None,
) -> list[StreamPrediction]:
    """`networks[task][query]` are probabilities of its classes; only those of candidates are passed on."""
    unknown_tensor = None if unknown is None else torch.tensor([unknown])
    posterior = Categorical(log(*gate)[None], unknown=unknown_tensor)
    candidates = candidate_tasks(posterior, scenario)
    answers = {}
    for task, rows in enumerate(networks):
        queries = (candidates == task).any(-1).nonzero()[:, 0]
        answers[task] = TaskPredictive(queries, log(*rows)[queries])
    labels = SHARED if scenario == "cl2" else LABELS
    return mixture_predictions(posterior, candidates, answers, labels, scenario, NAMES, coverage=0.9, top=top)


def test_classes_of_the_two_most_probable_tasks_share_what_is_left_of_the_third() -> None:
    (found,) = answered([[0.1, 0.6, 0.3]], [[[0.5, 0.5]], [[0.2, 0.3, 0.5]], [[0.9, 0.1]]], unknown=[0.25])
    expected = {"b0": 0.12 / 0.9, "b1": 0.18 / 0.9, "b2": 0.3 / 0.9, "c0": 0.27 / 0.9, "c1": 0.03 / 0.9}
    assert found.probabilities == pytest.approx(expected)
    assert (found.label, found.task, found.unknown) == ("b2", "b", 0.25)
    assert found.task_probability == pytest.approx(0.6)
    assert found.epistemic is None


def test_a_label_is_of_its_own_task_even_where_another_is_more_probable() -> None:
    (found,) = answered([[0.55, 0.4, 0.05]], [[[0.5, 0.5]], [[0.98, 0.01, 0.01]], [[0.9, 0.1]]])
    assert (found.label, found.task) == ("b0", "b")
    assert found.task_probability == pytest.approx(0.4)
    assert found.unknown is None


def test_in_cl2_tasks_vote_for_the_labels_they_share() -> None:
    (found,) = answered([[0.5, 0.3, 0.2]], [[[0.6, 0.4]], [[0.1, 0.9]], [[1, 0]]], "cl2")
    assert found.probabilities == pytest.approx({"no": 0.33 / 0.8, "yes": 0.47 / 0.8})
    assert (found.label, found.task) == ("yes", "a")


def test_in_cl1_the_most_probable_task_answers_alone() -> None:
    (found,) = answered([[0.4, 0.6, 0.0]], [[[1, 0]], [[0.2, 0.3, 0.5]], [[1, 0]]], "cl1")
    assert found.probabilities == pytest.approx({"b0": 0.2, "b1": 0.3, "b2": 0.5})


def test_each_query_has_its_own_tasks_and_its_own_place() -> None:
    gate = [[0.1, 0.2, 0.7], [0.8, 0.15, 0.05], [0.3, 0.1, 0.6], [0.05, 0.15, 0.8]]
    networks = [[[0.9, 0.1]] * 4, [[0.1, 0.1, 0.8]] * 4, [[0.2, 0.8], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]]
    found = answered(gate, networks, top=1)
    assert [one.label for one in found] == ["c1", "a0", "c0", "c0"]
    assert [set(one.probabilities) for one in found] == [{"c1"}, {"a0"}, {"c0"}, {"c0"}]


def test_a_stream_of_one_task_has_no_second_to_ask() -> None:
    posterior = Categorical(torch.zeros(1, 1, 1))
    candidates = candidate_tasks(posterior, "cl3")
    answers = {0: TaskPredictive(torch.tensor([0]), log([0.25, 0.75]))}
    (found,) = mixture_predictions(
        posterior, candidates, answers, LABELS[:1], "cl3", NAMES[:1], coverage=0.9, top=None
    )
    assert (found.label, found.task_probability) == ("a1", 1.0)
    assert found.confidence == pytest.approx(0.75)
