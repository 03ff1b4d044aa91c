"""Learners of one family of functions say when a task is outside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.server import Server
from tests.app.tasks.task_client import TaskClient

ZOO = Path(__file__).parents[3] / "models" / "zoo"
PLACES = [-4.5, -3.0, -1.5, 0.0, 1.0, 2.5, 4.0]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("family")
    (folder / "zoo").mkdir()
    for name in ("sinusoid", "sinusoid-cnp", "sinusoid-maml", "regression"):
        (folder / "zoo" / name).symlink_to(ZOO / name)
    running = Server(folder / "data", folder / "zoo")
    running.start()
    yield running.client
    running.stop()


def pairs(places: list[float], line: bool = False) -> list[dict[str, float]]:
    return [{"input": x, "target": 2 * x if line else 2 * math.sin(x + 0.5)} for x in places]


def codes(answer: httpx.Response) -> list[tuple[str, str]]:
    answer.raise_for_status()
    return [(notice["code"], notice["pointer"]) for notice in answer.json()["warnings"]]


@pytest.mark.parametrize("name", ["sinusoid", "sinusoid-cnp", "sinusoid-maml"])
def test_lines_and_far_places_are_outside_the_family_of_sinusoids(bundled: httpx.Client, name: str) -> None:
    body = {"kind": "regression", "learner": name, "support": pairs(PLACES)}
    made = bundled.post("/v1/tasks", json=body)
    assert codes(made) == []
    task = TaskClient(bundled, made.json()["id"])
    assert task.predict(5.0)["warnings"] == []
    (far,) = task.predict(1.0, 7.0)["warnings"]
    assert (far["code"], far["pointer"]) == ("outside_training_range", "/queries/1")
    assert "[-5, 5]" in far["detail"]
    line = {**body, "support": pairs(PLACES, line=True)}
    assert codes(bundled.post("/v1/tasks", json=line)) == [("unlike_training", "/support")]
    once = bundled.post("/v1/predict", json={**line, "queries": [-6.0]})
    assert codes(once) == [("unlike_training", "/support"), ("outside_training_range", "/queries/0")]
    distant = bundled.post("/v1/tasks", json={**body, "support": pairs([0.0, 1500.0])})
    assert ("outside_training_range", "/support/1/input") in codes(distant)


def test_the_default_takes_any_function(bundled: httpx.Client) -> None:
    support = [{"input": [x], "target": [2 * x]} for x in (1000.0, 1500.0, 2200.0, 3000.0)]
    made = bundled.post("/v1/tasks", json={"kind": "regression", "support": support})
    assert codes(made) == []
    assert made.json()["learner"] == "regression"
    answer = TaskClient(bundled, made.json()["id"]).predict(2000.0, 500.0)
    assert [found["mean"][0] for found in answer["predictions"]] == pytest.approx([4000.0, 1000.0], rel=0.02)
