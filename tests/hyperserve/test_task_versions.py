"""Versions and feedback, with both clients against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import hyperserve as hs
from hyperserve.requests import Request, support_body
from hyperserve.sync.task import fetch_task
from tests.app.server import Server

OPENAPI = Path(__file__).parents[2] / "docs/openapi.json"
VECTORS = {"left": [[-1.0, 0.1], [-0.9, 0.0]], "right": [[1.0, 0.1]]}


@pytest.fixture
def task(live: hs.Client) -> Iterator[hs.Task]:
    made = live.tasks.create(VECTORS, learner="vectors")
    yield made
    made.delete()


def predicted_label(task: hs.Task, x: float, y: float, version: int | None = None) -> str:
    return task.predict([[x, y]], version=version).predictions[0].label


def test_a_task_grows_and_rolls_back(task: hs.Task) -> None:
    grown = task.add({"up": [[0.0, 1.0], [0.1, 1.1]], "right": [[1.1, 0.0]]})
    assert (grown.version, grown.shots) == (2, {"left": 2, "right": 2, "up": 2})
    assert (predicted_label(grown, 0, 1), predicted_label(grown, 0, 1, version=2)) == ("up", "up")
    assert predicted_label(grown, -1, 0.5, version=1) == "left"
    assert [(version.number, version.origin, version.current) for version in task.versions()] == [
        (2, "support", True),
        (1, "created", False),
    ]
    assert grown.rename("pets").name == "pets"
    back = task.promote(1)
    assert (back.version, back.classes) == (1, ["left", "right"])
    assert (task.refresh().version, task.refresh().name) == (1, "pets")
    assert "up" not in task.predict([[0, 1]]).predictions[0].probabilities


def test_a_version_may_wait_for_its_promotion(live: hs.Client, task: hs.Task) -> None:
    waiting = task.add({"up": [[0.0, 1.0]]}, promote=False)
    assert (waiting.version, task.refresh().version) == (2, 1)
    assert predicted_label(task, 0, 1, version=2) == "up"
    assert live.tasks.get(task.id, version=2).classes == ["left", "right", "up"]
    (newest, _) = task.versions()
    assert task.promote(newest).version == 2


def test_examples_are_relabelled_and_removed(task: hs.Task) -> None:
    first, *_ = [example for example in task.support() if example.label == "left"]
    moved = task.relabel(first, "right")
    assert (moved.version, moved.shots) == (2, {"left": 1, "right": 2})
    assert sorted(example.label for example in task.support(version=1)) == ["left", "left", "right"]
    example = next(example for example in moved.support() if example.label == "right")
    assert moved.remove(example.id).shots == {"left": 1, "right": 1}
    with pytest.raises(hs.UnprocessableError):
        task.remove(next(iter(task.refresh().support())))


def test_two_who_change_a_task_notice_each_other(live: hs.Client, task: hs.Task) -> None:
    mine, yours = live.tasks.get(task.id), live.tasks.get(task.id)
    mine.add({"up": [[0.0, 1.0]]}, if_unchanged=True)
    for change in (
        lambda: yours.add({"down": [[0.0, -1.0]]}, if_unchanged=True),
        lambda: yours.promote(1, if_unchanged=True),
        lambda: yours.delete(if_unchanged=True),
    ):
        with pytest.raises(hs.PreconditionFailedError) as raised:
            change()
        assert raised.value.code == "precondition_failed"
    assert yours.refresh().promote(1, if_unchanged=True).version == 1


def test_feedback_teaches(live: hs.Client, task: hs.Task) -> None:
    odd, known = task.predict([[0.0, 1.0], [-1.0, 0.0]], store=True).predictions
    taught = odd.feedback("up")
    assert (taught.version, taught.shots) == (2, {"left": 2, "right": 1, "up": 1})
    assert odd.feedback("up").version == 2
    assert live.feedback(str(known.id), "left").shots["left"] == 3
    corrected = odd.feedback("right")
    assert (corrected.version, corrected.shots) == (4, {"left": 3, "right": 2})
    assert next(iter(task.versions())).origin == "feedback"
    with pytest.raises(hs.NotFoundError):
        live.feedback("pred_nothing", "left")


def test_a_creation_sent_twice_is_made_once(server: Server) -> None:
    """Repeat a request with its key, as after a broken connection."""
    with hs.Client(server.url) as client:
        request = Request.creation("/v1/tasks", support_body(VECTORS, learner="vectors"))
        first, second = (fetch_task(client.tasks._transport, request) for _ in range(2))
        assert first.id == second.id
        more = Request.creation(f"/v1/tasks/{first.id}/support", support_body({"up": [[0.0, 1.0]]}))
        grown = [fetch_task(client.tasks._transport, more).version for _ in range(2)]
        assert grown == [2, 2]
        first.delete()


def test_the_server_knows_the_keys_of_all_that_is_sent_again() -> None:
    """Otherwise a creation whose connection broke would happen twice."""
    document = json.loads(OPENAPI.read_text())
    for path in (
        "/v1/tasks",
        "/v1/tasks/{task_id}/support",
        "/v1/predictions/{prediction_id}/feedback",
        "/v1/datasets",
        "/v1/learners",
    ):
        parameters = document["paths"][path]["post"]["parameters"]
        assert "Idempotency-Key" in [parameter["name"] for parameter in parameters], path


def test_the_asynchronous_client_does_all_of_it(server: Server) -> None:
    async def use() -> None:
        async with hs.AsyncClient(server.url) as client:
            assert await client.ready()
            first, second = await asyncio.gather(
                *(client.tasks.create(VECTORS, learner="vectors") for _ in "ab")
            )
            grown = await first.add({"up": [[0.0, 1.0]]}, if_unchanged=True)
            answer = await grown.predict([[0.0, -1.0], [0.0, 1.0]], store=True)
            assert answer.predictions[1].label == "up"
            taught = await answer.predictions[0].feedback("down")
            assert taught.classes == ["left", "right", "up", "down"]
            assert (await taught.promote(1)).version == 1
            assert [version.version async for version in first.versions()] == [3, 2, 1]
            assert len(await first.support(version=3).all()) == 5
            listed = [task.id async for task in client.tasks.list()]
            assert {first.id, second.id} <= set(listed)
            await asyncio.gather(first.delete(), second.delete())
            with pytest.raises(hs.NotFoundError):
                await first.refresh()

    asyncio.run(use())
