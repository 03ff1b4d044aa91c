"""Learners that become ready while the server runs, and those that it finds when it starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.app.learners.published import publish
from tests.app.problems import problem
from tests.app.server import Server

SEEN_SECONDS = 5.0
"""Two, on a machine that is not busy."""


@pytest.fixture(scope="module")
def running(zoo: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started with one good learner and one whose file is damaged."""
    folder = tmp_path_factory.mktemp("library") / "data"
    server = Server(folder, zoo)  # type: ignore[arg-type]
    server.start()
    server.stop()
    asyncio.run(publish(folder, "found"))
    asyncio.run(publish(folder, "broken", seed=5, damaged=True))
    server.start()
    yield server
    server.stop()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SEEN_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_ready_is_loaded_at_the_start(running: Server, b64: Callable[..., str]) -> None:
    found = running.client.get("/v1/learners/found").json()
    assert (found["status"], found["card"]) == ("ready", "# found, untrained")
    body = {"learner": "found", "support": {"a": [b64(0)], "b": [b64(20)]}, "queries": [b64(1)]}
    assert running.client.post("/v1/predict", json=body).json()["predictions"][0]["label"] == "a"


def test_one_that_cannot_be_loaded_is_shown_as_failed_and_the_server_runs(running: Server) -> None:
    broken = running.client.get("/v1/learners/broken").json()
    assert (broken["status"], broken["error"]["code"]) == ("failed", "learner_unavailable")
    assert broken["digest"] is None
    assert running.client.get("/readyz").status_code == 200
    assert running.client.delete("/v1/learners/broken").status_code == 204


def test_one_that_is_published_can_be_used_at_once(running: Server, b64: Callable[..., str]) -> None:
    asyncio.run(publish(running.data_dir, "fresh"))
    support = {"a": [b64(0)], "b": [b64(20)]}
    made = running.client.post("/v1/tasks", json={"learner": "fresh", "support": support})
    assert made.status_code == 201, made.text
    running.client.delete(f"/v1/tasks/{made.json()['id']}")


def test_news_reach_a_process_that_nobody_asks(running: Server) -> None:
    asyncio.run(publish(running.data_dir, "quiet"))
    served = lambda: [one for one in items(running.client) if one["name"] == "quiet"]  # noqa: E731
    eventually(lambda: served()[0]["status"] == "ready")
    first = served()[0]["digest"]
    asyncio.run(publish(running.data_dir, "quiet", seed=1))
    eventually(lambda: served()[0]["status"] == "ready" and served()[0]["digest"] != first)


def test_a_learner_that_tasks_use_is_deleted_by_force_alone(running: Server, b64: Callable[..., str]) -> None:
    client = running.client
    asyncio.run(publish(running.data_dir, "used", seed=3))
    support = {"a": [b64(0)], "b": [b64(20)]}
    task = client.post("/v1/tasks", json={"learner": "used", "support": support}).json()["id"]
    problem(client.delete("/v1/learners/used"), 409, "learner_in_use")
    assert client.delete("/v1/learners/used?force=true").status_code == 204
    problem(client.get("/v1/learners/used"), 404, "learner_not_found")
    answer = client.post(f"/v1/tasks/{task}/predict", json={"queries": [b64(1)]})
    problem(answer, 503, "learner_unavailable")
    problem(client.post("/v1/tasks", json={"learner": "used", "support": support}), 422, "unknown_learner")
    client.delete(f"/v1/tasks/{task}")


def test_a_learner_that_streams_stand_on_is_deleted_by_force_alone(running: Server) -> None:
    client = running.client
    asyncio.run(publish(running.data_dir, "under", seed=4))
    made = client.post("/v1/streams", json={"name": "over", "method": "analytic", "learner": "under"})
    assert made.status_code == 201, made.text
    problem(client.delete("/v1/learners/under"), 409, "learner_in_use")
    assert client.delete("/v1/learners/under?force=true").status_code == 204
    assert client.delete("/v1/streams/over").status_code == 204


def test_a_deleted_learner_leaves_no_file(running: Server) -> None:
    for learner in items(running.client):
        running.client.delete(f"/v1/learners/{learner['name']}?force=true")
    left = (running.data_dir / "blobs" / "learners").rglob("*")
    assert [path for path in left if path.is_file()] == []


def items(client: httpx.Client) -> list[dict[str, object]]:
    found: list[dict[str, object]] = client.get("/v1/learners").json()["items"]
    return found
