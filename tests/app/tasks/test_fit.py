"""Answers say how well a support set fits what the encoder was trained on, and warn if it does not.

The check is a toy: the share of examples whose first number is positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from torch import Tensor

from models.encoders.identity import Identity
from tests.app.inside import inside
from tests.app.tasks.regression import WAVE, wave
from tests.app.tasks.task_client import TaskClient, feedback, new_task

HOME = {"a": [[1.0, 5.0]], "b": [[5.0, 1.0]]}
FOREIGN = {"a": [[-1.0, 5.0]], "b": [[-5.0, 1.0]]}
QUERY = [1.0, 4.0]
UNFAMILIAR = "unfamiliar_support"
B64 = Callable[..., str]


def share_of_positive(_: Identity, features: Tensor, targets: Tensor | None, mask: Tensor) -> Tensor:
    return ((features[..., 0] > 0) & mask).sum(1) / mask.sum(1)


def told(answer: Mapping[str, Any]) -> tuple[float | None, list[tuple[str, str | None]]]:
    return answer["fit"], [(notice["code"], notice["pointer"]) for notice in answer["warnings"]]


@pytest.fixture(scope="module", autouse=True)
def checked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Identity, "familiarity", share_of_positive)
        yield


@pytest.fixture(scope="module")
def client(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with inside(tmp_path_factory.mktemp("fit") / "data", zoo) as client:
        yield client


def test_at_home_no_warning(client: httpx.Client) -> None:
    made = client.post("/v1/tasks", json={"learner": "vectors", "support": HOME})
    assert told(made.json()) == (1.0, [])
    assert told(TaskClient(client, made.json()["id"]).predict(QUERY)) == (1.0, [])


def test_a_foreign_support_set_is_called_so_in_every_answer(client: httpx.Client) -> None:
    made = client.post("/v1/tasks", json={"learner": "vectors", "support": FOREIGN}).json()
    assert told(made) == (0.0, [(UNFAMILIAR, "/support")])
    assert "another learner" in made["warnings"][0]["detail"]
    task = TaskClient(client, made["id"])
    # The support set is no part of these requests, so nothing points to it.
    assert told(task.predict(QUERY)) == (0.0, [(UNFAMILIAR, None)])
    assert task.get()["fit"] is None, "a task is read without its weights"
    once = client.post("/v1/predict", json={"learner": "vectors", "support": FOREIGN, "queries": [QUERY]})
    assert told(once.json()) == (0.0, [(UNFAMILIAR, "/support")])


def test_a_version_has_the_fit_of_all_its_examples(client: httpx.Client) -> None:
    task = new_task(client, FOREIGN)
    assert told(task.add({"a": [[2.0, 5.0]], "b": [[3.0, 1.0]]})) == (0.5, [])
    assert told(task.predict(QUERY)) == (0.5, [])
    assert told(task.predict(QUERY, version=1)) == (0.0, [(UNFAMILIAR, None)])
    (prediction,) = task.stored_predictions(QUERY)
    assert told(feedback(client, prediction, "a"))[0] == pytest.approx(0.6)
    assert told(task.add({"a": [[-2.0, 5.0]]}))[0] == pytest.approx(0.5)


def test_a_revision_that_leaves_foreign_examples_alone_warns(client: httpx.Client) -> None:
    task = new_task(client, {"a": [[-1.0, 5.0], [-2.0, 5.0]], "b": [[-5.0, 1.0]]})
    first = task.examples()[0]["id"]
    assert told(task.remove(first)) == (0.0, [(UNFAMILIAR, None)])


def test_the_threshold(client: httpx.Client) -> None:
    few, more = ([[-1.0, float(index)] for index in range(count)] for count in (20, 18))
    for examples, warned in ((few, True), (more, False)):
        support = {"a": examples, "b": [[1.0, 0.0]]}
        made = client.post("/v1/tasks", json={"learner": "vectors", "support": support}).json()
        assert made["fit"] == pytest.approx(1 / (len(examples) + 1))
        assert ((UNFAMILIAR, "/support") in told(made)[1]) is warned


def test_values_and_learners_without_a_check_have_no_fit(client: httpx.Client, b64: B64) -> None:
    task = wave(client, WAVE)
    assert (task.predict([0.1])["fit"], task.add(WAVE[:1])["fit"]) == (None, None)
    support = {"a": [b64(0)], "b": [b64(30)]}
    once = client.post("/v1/predict", json={"learner": "glyphs", "support": support, "queries": [b64(2)]})
    assert once.json()["fit"] is None


def test_it_survives_a_restart(zoo: Path, tmp_path: Path) -> None:
    with inside(tmp_path / "data", zoo) as client:
        task = new_task(client, FOREIGN)
    with inside(tmp_path / "data", zoo) as client:
        assert told(TaskClient(client, task.id).predict(QUERY)) == (0.0, [(UNFAMILIAR, None)])
