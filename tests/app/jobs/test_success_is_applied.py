"""Whoever hears that a job has succeeded finds in the same process what it has made, at once.

One table of all kinds of jobs, each heard of in every way, with real worker processes and two API processes.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from hyperserve import Client
from tests.app.pairs import Pair, on_servers, on_sqlite
from tests.app.server import Server
from tests.app.streams.stream_requests import create, register, uploaded, vectors
from tests.models.data.archives import zipped
from tests.models.glyph_data import glyphs
from tests.servers.postgres import own_postgres
from tests.servers.redis import own_redis
from workers.jobs import KINDS

JOB_SECONDS = 150
POLL_SECONDS = 0.05
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Check = Callable[[Server, dict[str, Any]], None]
Hear = Callable[[Server, str], dict[str, Any]]


@pytest.fixture(params=["sqlite", "servers"])
def pair(request: pytest.FixtureRequest, zoo: Path, tmp_path: Path) -> Iterator[Pair]:
    """The first has a worker; the second reads changes of both from the database alone, or is woken by Redis."""
    if request.param == "sqlite":
        found = on_sqlite(tmp_path, zoo)
    else:
        postgres, cache = own_postgres(), own_redis(tmp_path)
        postgres.start()
        cache.start()
        found = on_servers(tmp_path, zoo, postgres, cache)
    found.one.environment = {**found.one.environment, "HYPERSERVE_WORKER": "true"}
    try:
        found.start()
        yield found
    finally:
        found.stop()


def by_get(server: Server, job: str) -> dict[str, Any]:
    """Asks far more often than once a second, when processes look for changes by themselves."""
    return _polled(lambda: server.client.get(f"/v1/jobs/{job}").json())


def by_list(server: Server, job: str) -> dict[str, Any]:
    def found() -> dict[str, Any]:
        listed: list[dict[str, Any]] = server.client.get("/v1/jobs").json()["items"]
        return next(one for one in listed if one["id"] == job)

    return _polled(found)


def by_events(server: Server, job: str) -> dict[str, Any]:
    with Client(server.url) as client:
        return list(client.jobs.events(job))[-1].model_dump()


def by_waiting(server: Server, job: str) -> dict[str, Any]:
    with Client(server.url) as client:
        return client.jobs.wait(job, timeout=JOB_SECONDS).model_dump()


WAYS: tuple[Hear, ...] = (by_get, by_events, by_list, by_waiting)


def _polled(state: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    deadline = time.monotonic() + JOB_SECONDS
    while time.monotonic() < deadline:
        if (found := state())["state"] not in ("queued", "running"):
            return found
        time.sleep(POLL_SECONDS)
    raise AssertionError(found)


def registers(server: Server, name: str) -> tuple[str, Check]:
    """The stream answers by the version with the new stream task, whose labels it knows."""
    dataset = uploaded(server.client, vectors(f"{name}-a", f"{name}-b"))
    job = register(server.client, name, dataset).json()["job"]["id"]
    return job, lambda asked, result: _assert_answers_by(asked, result["version"], name)


def forgets(server: Server, name: str) -> tuple[str, Check]:
    """The stream answers by a version without the stream task, which is gone."""
    by_get(server, registers(server, name)[0])
    job = server.client.post(f"/v1/streams/points/tasks/{name}/forget").json()["job"]["id"]

    def check(asked: Server, result: dict[str, Any]) -> None:
        _assert_answers_by(asked, result["version"])
        gone = asked.client.post("/v1/streams/points/predict", json={"queries": [[0.0] * 4], "task": name})
        assert gone.status_code == 410

    return job, check


def trains(server: Server, name: str) -> tuple[str, Check]:
    """The learner is loaded, though it replaces another of its name."""
    data = glyphs(classes=10, examples=8)
    members = {}
    for index, (ink, label) in enumerate(zip(data.inputs, data.labels, strict=True)):
        file = io.BytesIO()
        Image.fromarray(255 - ink.numpy()).save(file, "PNG")
        members[f"{data.class_names[int(label)]}/{index}.png"] = file.getvalue()
    made = server.client.post("/v1/datasets", files={"file": ("drawn.zip", zipped(members).getvalue())})
    server.client.delete("/v1/learners/drawn")
    body = {"name": "drawn", "method": "protonet", "dataset": made.json()["id"], "steps": 2, "queries": 2}
    asked = server.client.post("/v1/learners", json={**body, "ways": {"min": 2, "max": 3}, "seed": len(name)})
    job: str = asked.json()["job"]["id"]

    def check(asked: Server, result: dict[str, Any]) -> None:
        learner = asked.client.get("/v1/learners/drawn").json()
        assert (learner["status"], learner["digest"]) == ("ready", result["digest"])

    return job, check


TABLE = {"stream_register": registers, "stream_forget": forgets, "train": trains}


def test_a_job_that_has_succeeded_answers_where_it_is_told(pair: Pair) -> None:
    assert TABLE.keys() == KINDS.keys()
    assert create(pair.one.client).status_code == 201
    by_get(pair.one, registers(pair.one, "first")[0])
    for kind, request in TABLE.items():
        # All kinds are told by the same code.
        ways = WAYS if kind == "stream_register" else WAYS[:1]
        for number, hear in enumerate(ways):
            asked = pair.servers[(number + 1) % 2]
            # The version before is in memory.
            predict(asked, {})
            job, check = request(pair.one, f"{kind.replace('_', '-')}-{number}")
            told = hear(asked, job)
            assert told["state"] == "succeeded", told
            check(asked, told["result"])


def test_a_version_that_is_told_of_answers(pair: Pair) -> None:
    """Those who hear of it by the stream's own answers, too; and a version by number answers in any process."""
    assert create(pair.one.client).status_code == 201
    by_get(pair.one, registers(pair.one, "first")[0])
    told: tuple[Callable[[httpx.Client], object], ...] = (
        lambda client: client.get("/v1/streams/points").json()["version"],
        lambda client: len([one for one in _tasks(client) if one["state"] == "ready"]),
    )
    for number, ask in enumerate(told, 2):
        predict(pair.other, {})
        job, _ = registers(pair.one, f"task-{number}")
        deadline = time.monotonic() + JOB_SECONDS
        while ask(pair.other.client) != number:
            assert time.monotonic() < deadline
            time.sleep(POLL_SECONDS)
        _assert_answers_by(pair.other, number, f"task-{number}")
        by_get(pair.one, job)
    predict(pair.other, {})
    job, _ = registers(pair.one, "last")
    version = by_get(pair.one, job)["result"]["version"]
    assert predict(pair.other, {"version": version}).json()["version"] == version


def predict(server: Server, options: dict[str, Any]) -> httpx.Response:
    answer = server.client.post("/v1/streams/points/predict", json={"queries": [[0.0] * 4], **options})
    assert answer.status_code == 200, answer.text
    return answer


def _tasks(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/v1/streams/points/tasks").json()["items"]
    return found


def _assert_answers_by(server: Server, version: int, task: str | None = None) -> None:
    assert predict(server, {}).json()["version"] == version
    if task is not None:
        assert predict(server, {"task": task}).json()["version"] == version
