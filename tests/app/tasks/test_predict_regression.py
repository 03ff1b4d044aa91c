"""Regression over HTTP: vectors to vectors, with the variance of the noise; told, kept and taught like any task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import httpx
import pytest
import torch

from models.artifact import load
from models.protocol import Support
from tests.app.inside import inside
from tests.app.tasks import regression
from tests.app.tasks.regression import QUERIES, WAVE, means, wave
from tests.app.tasks.task_client import TaskClient


@pytest.fixture
def task(client: httpx.Client) -> Iterator[TaskClient]:
    made = wave(client)
    yield made
    client.delete(made.path)


def by_hand(folder: Path, pairs: list[dict[str, Any]], queries: list[list[float]]) -> Any:
    learner = load(folder).learner
    x = torch.tensor([[pair["input"] for pair in pairs]])
    y = torch.tensor([[pair["target"] for pair in pairs]])
    with torch.no_grad():
        return learner.predict(learner.adapt(Support.of(x, y)), torch.tensor([queries]))


def test_a_task_of_values(client: httpx.Client, task: TaskClient) -> None:
    found = task.get()
    assert (found["kind"], found["classes"], found["shots"], found["examples"]) == ("regression", [], {}, 10)
    assert found["learner"] == "regression"
    listed = client.get("/v1/tasks").json()["items"][0]
    assert (listed["id"], listed["kind"], listed["examples"]) == (task.id, "regression", 10)
    assert [example["target"] for example in task.examples()] == [pair["target"] for pair in WAVE]
    assert {example["label"] for example in task.examples()} == {None}


def test_the_answer_is_the_learners_own(task: TaskClient, zoo: Path) -> None:
    answer = task.predict(*QUERIES)
    assert (answer["kind"], answer["version"]) == ("regression", 1)
    expected = by_hand(zoo / "regression", WAVE, QUERIES)
    for index, found in enumerate(answer["predictions"]):
        assert found["mean"] == pytest.approx(expected.mean[0, index].tolist(), abs=1e-5)
        assert found["aleatoric"] == pytest.approx(expected.aleatoric[0, index].tolist(), abs=1e-5)
        assert (found["epistemic"], found["nll"], found["id"]) == (None, None, None)


@pytest.mark.parametrize("coverage", [0.5, 0.95, 0.9999999999999999, 1e-300])
def test_the_interval_holds_what_was_asked(task: TaskClient, coverage: float) -> None:
    for found in task.predict(*QUERIES, coverage=coverage)["predictions"]:
        (low, high), (mean,), (variance,) = found["interval"][0], found["mean"], found["aleatoric"]
        reach = -NormalDist().inv_cdf((1 - coverage) / 2) * math.sqrt(variance)
        assert (low, high) == (pytest.approx(mean - reach), pytest.approx(mean + reach))


def test_nll_is_that_of_the_whole_target(client: httpx.Client) -> None:
    pairs = [{"input": [x, 1.0], "target": [x, -x, 0.5]} for x in (0.0, 1.0, 2.0)]
    queries, targets = [[0.5, 1.0], [4.0, 0.0]], [[0.5, -0.5, 0.5], [3.0, 1.0, 0.0]]
    task = wave(client, pairs, learner="pairs")
    for found, target in zip(task.predict(*queries, targets=targets)["predictions"], targets, strict=True):
        assert all(part > 0 for part in found["epistemic"])
        variances = [sum(parts) for parts in zip(found["aleatoric"], found["epistemic"], strict=True)]
        nll = sum(
            0.5 * (math.log(2 * math.pi * variance) + (y - mean) ** 2 / variance)
            for y, mean, variance in zip(target, found["mean"], variances, strict=True)
        )
        assert found["nll"] == pytest.approx(nll, rel=1e-6)
        assert len(found["interval"]) == 3
    client.delete(task.path)


def test_bare_numbers_are_vectors_of_one(client: httpx.Client, task: TaskClient) -> None:
    bare = wave(client, [{"input": pair["input"][0], "target": pair["target"][0]} for pair in WAVE])
    queries = [query[0] for query in QUERIES]
    assert means(bare.predict(*queries, targets=[0, 1, 2])) == means(task.predict(*QUERIES))
    client.delete(bare.path)


def test_once(client: httpx.Client, task: TaskClient) -> None:
    body = {"kind": "regression", "support": WAVE, "queries": QUERIES, "targets": [[0], [1], [2]]}
    once = client.post("/v1/predict", json=body).json()
    assert (once["task"], once["kind"], once["learner"]) == (None, "regression", "regression")
    kept = task.predict(*QUERIES, targets=[[0], [1], [2]])
    for one, other in zip(once["predictions"], kept["predictions"], strict=True):
        assert one["nll"] == pytest.approx(other["nll"], rel=1e-5)
        assert one["interval"][0] == pytest.approx(other["interval"][0], abs=1e-5)


def test_one_example_is_enough_and_the_order_does_not_matter(client: httpx.Client, task: TaskClient) -> None:
    turned = wave(client, WAVE[::-1])
    for one, other in zip(means(turned.predict(*QUERIES)), means(task.predict(*QUERIES)), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    single = wave(client, WAVE[:1])
    assert single.get()["examples"] == 1
    for made in (turned, single):
        client.delete(made.path)


def test_top_has_no_effect(task: TaskClient) -> None:
    assert means(task.predict(*QUERIES, top=1)) == means(task.predict(*QUERIES))


def test_zeros_and_repeated_inputs_are_no_matter_but_repeated_pairs_are(client: httpx.Client) -> None:
    pairs = [{"input": [0.0], "target": [y]} for y in (0.0, 1.0, 1.0)]
    made = client.post("/v1/tasks", json={"kind": "regression", "support": pairs}).json()
    ((code, where),) = [(notice["code"], notice["pointer"]) for notice in made["warnings"]]
    assert (code, where) == ("identical_examples", "/support/2/input")
    client.delete(f"/v1/tasks/{made['id']}")


def test_versions(task: TaskClient, zoo: Path) -> None:
    added = task.add([{"input": [4.0], "target": [-1.5]}])
    assert (added["version"], added["examples"]) == (2, 11)
    example = task.examples()[3]["id"]
    turned = task.client.patch(f"{task.path}/support/{example}", json={"target": [9.0]}).json()
    assert (turned["version"], turned["examples"]) == (3, 11)
    targets = [found["target"] for found in task.examples()]
    assert targets[3] == [9.0]
    assert task.remove(task.examples()[0]["id"])["examples"] == 10
    pairs = [*WAVE[1:3], {**WAVE[3], "target": [9.0]}, *WAVE[4:], {"input": [4.0], "target": [-1.5]}]
    expected = by_hand(zoo / "regression", pairs, QUERIES).mean[0]
    for found, mean in zip(means(task.predict(*QUERIES)), expected.tolist(), strict=True):
        assert found == pytest.approx(mean, abs=1e-5)
    assert means(task.predict(*QUERIES, version=1)) != means(task.predict(*QUERIES))
    assert [version["examples"] for version in task.versions()] == [10, 11, 11, 10]
    assert {version["kind"] for version in task.versions()} == {"regression"}
    assert task.promote(1)["examples"] == 10


def test_a_target_that_an_example_has_already_makes_no_version(task: TaskClient) -> None:
    example = task.examples()[0]
    same = task.client.patch(f"{task.path}/support/{example['id']}", json={"target": example["target"]})
    assert (same.status_code, same.json()["version"]) == (200, 1)


def test_feedback_adds_the_pair_once(task: TaskClient) -> None:
    prediction = task.stored_predictions([5.0])[0]
    path = f"/v1/predictions/{prediction}/feedback"
    first = task.client.post(path, json={"target": [-1.9]})
    assert (first.status_code, first.json()["version"], first.json()["examples"]) == (201, 2, 11)
    assert task.client.post(path, json={"target": -1.9}).json()["version"] == 2
    assert task.examples()[-1]["target"] == [-1.9]
    other = task.client.post(path, json={"target": [-2.0]}).json()
    assert (other["version"], other["examples"]) == (3, 11)
    assert task.examples()[-1]["target"] == [-2.0]
    assert {version["origin"] for version in task.versions()} == {"created", "feedback"}


def test_answers_survive_a_restart_and_lost_features(zoo: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with inside(data, zoo) as client:
        task = wave(client)
        task.add([{"input": [4.0], "target": [-1.5]}])
        before = [means(task.predict(*QUERIES, version=number)) for number in (1, 2)]
    for _ in range(2):
        with inside(data, zoo) as client:
            task = TaskClient(client, task.id)
            for number, known in zip((1, 2), before, strict=True):
                for one, other in zip(means(task.predict(*QUERIES, version=number)), known, strict=True):
                    assert one == pytest.approx(other, abs=1e-5)
        for path in (data / "blobs" / "features").rglob("ver_*"):
            path.unlink()
    with inside(data, zoo) as client:
        client.delete(f"/v1/tasks/{task.id}")
    assert [path for path in (data / "blobs").rglob("*") if path.is_file()] == []


def test_a_release_that_replaces_the_learner_renews_its_tasks(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "zoo"
    regression.save(folder / "regression")
    with inside(data, folder) as client:
        task = wave(client)
        before = means(task.predict(*QUERIES))
    regression.save(folder / "regression", seed=7)
    with inside(data, folder) as client:
        task = TaskClient(client, task.id)
        answer = task.predict(*QUERIES)
        assert (answer["version"], answer["warnings"][0]["code"]) == (2, "learner_replaced")
        assert means(answer) != before
        expected = by_hand(folder / "regression", WAVE, QUERIES).mean[0].tolist()
        assert means(answer) == [pytest.approx(mean, abs=1e-5) for mean in expected]
        told = [(found["origin"], found["examples"], found["kind"]) for found in task.versions()]
        assert told == [("renewed", 10, "regression"), ("created", 10, "regression")]
    regression.save(folder / "regression", target=2)
    with inside(data, folder) as client:
        gone = client.post(f"{task.path}/predict", json={"queries": QUERIES})
        assert (gone.status_code, gone.json()["code"]) == (503, "learner_unavailable")


def test_learners_say_what_they_do(client: httpx.Client) -> None:
    items = {found["name"]: found for found in client.get("/v1/learners").json()["items"]}
    told = {name: (found["kind"], found["default"]) for name, found in items.items()}
    assert told["regression"] == ("regression", True)
    assert told["pairs"] == ("regression", False)
    assert told["vectors"] == ("classification", True)
    assert told["triples"] == ("classification", False)
