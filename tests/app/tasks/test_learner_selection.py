"""A learner that takes one number of classes: served like any other, and plain about what it does not take."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.app.learner import save_learner
from tests.app.problems import create, problem
from tests.app.server import Server

WAY = 4
CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`fours` takes four classes; `vectors` any number; `pictures` any, but of pictures."""
    zoo = tmp_path_factory.mktemp("fixed")
    vector: dict[str, object] = {"kind": "vector", "dim": 3}
    hparams: dict[str, object] = {"ways": WAY, "hidden": 16}
    save_learner(zoo / "fours", "identity", {}, vector, method="hypershot", method_hparams=hparams)
    save_learner(zoo / "vectors", "identity", {}, {"kind": "vector"})
    save_learner(zoo / "pictures", "conv4", {"width": 8}, {"kind": "image"})
    running = Server(tmp_path_factory.mktemp("server") / "data", zoo)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def fixed(server: Server) -> httpx.Client:
    return server.client


def support(*labels: str, shots: int = 2) -> dict[str, list[list[float]]]:
    rng = random.Random("".join(sorted(labels)))
    return {label: [[rng.random() for _ in range(3)] for _ in range(shots)] for label in labels}


def ask(client: httpx.Client, examples: dict[str, Any], queries: list[list[float]]) -> list[dict[str, Any]]:
    task = create(client, learner="fours", support=examples)
    assert task.status_code == 201, task.text
    answer = client.post(f"/v1/tasks/{task.json()['id']}/predict", json={"queries": queries})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


@pytest.mark.parametrize("way", [2, 3, 5, 6])
@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/predict"])
def test_pitfall_05_another_way_is_refused_and_told_who_takes_it(
    fixed: httpx.Client, way: int, path: str
) -> None:
    body = {"learner": "fours", "support": support(*CLASSES[:way])}
    if path == "/v1/predict":
        body["queries"] = [[0.0, 0.0, 1.0]]
    document = problem(fixed.post(path, json=body), 422, "unsupported_way")
    (only,) = document["errors"]
    assert (only["pointer"], only["limit"]) == ("/support", WAY)
    expected = f"fours takes 4 classes, not {way}. Learners that take any number of classes: vectors."
    assert only["detail"] == expected
    assert fixed.get("/v1/tasks").json()["items"] == []


def test_the_learner_says_which_ways_it_takes(fixed: httpx.Client) -> None:
    learner = fixed.get("/v1/learners/fours").json()
    assert learner["ways"] == {"min": WAY, "max": WAY}


def test_its_way_is_served_whatever_the_order_and_the_shots(fixed: httpx.Client) -> None:
    examples = support(*CLASSES[:WAY])
    examples["bee"].append([0.5, 0.1, 0.9])
    queries = [[0.1, 0.9, 0.2], [0.7, 0.0, 0.3]]
    found = ask(fixed, examples, queries)
    turned = ask(fixed, dict(reversed(examples.items())), queries)
    for one, other in zip(found, turned, strict=True):
        assert one["epistemic"] is None
        assert one["unknown"] is None
        assert sum(one["probabilities"].values()) == pytest.approx(1)
        assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)
        assert other["prediction_set"] == one["prediction_set"]
    for item in fixed.get("/v1/tasks").json()["items"]:
        assert fixed.delete(f"/v1/tasks/{item['id']}").status_code == 204


def test_a_task_grows_in_examples_and_not_in_classes(fixed: httpx.Client) -> None:
    task = create(fixed, learner="fours", support=support(*CLASSES[:WAY])).json()["id"]
    more = fixed.post(f"/v1/tasks/{task}/support", json={"support": {"ant": [[0.3, 0.1, 0.2]]}})
    assert more.status_code == 201, more.text
    assert (more.json()["version"], more.json()["shots"]["ant"]) == (2, 3)
    another = fixed.post(f"/v1/tasks/{task}/support", json={"support": {"elk": [[0.3, 0.1, 0.2]]}})
    (only,) = problem(another, 422, "unsupported_way")["errors"]
    assert only["limit"] == WAY
    assert "vectors" in only["detail"]
    assert fixed.get(f"/v1/tasks/{task}").json()["version"] == 2
    assert fixed.delete(f"/v1/tasks/{task}").status_code == 204


def test_weights_are_made_again_after_a_restart(server: Server) -> None:
    queries = {"queries": [[0.1, 0.9, 0.2]]}
    task = create(server.client, learner="fours", support=support(*CLASSES[:WAY])).json()["id"]
    before = server.client.post(f"/v1/tasks/{task}/predict", json=queries).json()["predictions"]
    server.stop()
    server.start()
    after = server.client.post(f"/v1/tasks/{task}/predict", json=queries).json()["predictions"]
    assert after[0]["probabilities"] == pytest.approx(before[0]["probabilities"], abs=1e-6)
