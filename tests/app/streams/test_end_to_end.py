"""The life of a stream with a worker: registered, queried, killed, forgotten, deleted."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.app.problems import problem
from tests.app.server import Server
from tests.app.streams.stream_requests import CSV, create, register, uploaded, vectors

JOB_SECONDS = 120
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def worker(zoo: Path, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", zoo, {"HYPERSERVE_WORKER": "true", "HYPERSERVE_LEASE_SECONDS": "3"})
    server.start()
    yield server
    server.stop()


def finished(client: httpx.Client, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + JOB_SECONDS
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def rows(*labels: str) -> list[list[float]]:
    lines = vectors(*labels, examples=3, seed=5).decode().splitlines()
    return [[float(value) for value in line.split(",")[1:]] for line in lines]


def ask(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/streams/points/predict", json=body)


def labels(client: httpx.Client, *of: str) -> list[str]:
    answer = ask(client, queries=rows(*of))
    assert answer.status_code == 200, answer.text
    return [prediction["label"] for prediction in answer.json()["predictions"]]


def children(server: Server) -> list[psutil.Process]:
    found = psutil.Process(server.process.pid).children(recursive=True)
    return [process for process in found if "workers.child" in process.cmdline()]


def test_a_stream_of_ones_own(worker: Server) -> None:
    client = worker.client
    assert create(client).status_code == 201
    first = register(client, "first", uploaded(client, vectors("a", "b", examples=40)))
    assert finished(client, first.json()["job"]["id"])["state"] == "succeeded"
    assert labels(client, "a", "b") == ["a"] * 3 + ["b"] * 3

    # Killed in its middle, or before it, or after: what is published answers, and it is done once.
    data = vectors("c", "d", examples=40)
    second = client.post("/v1/streams/points/tasks", params={"name": "second"}, content=data, headers=CSV)
    third = register(client, "third", uploaded(client, vectors("e", "f", examples=40)))
    assert (second.status_code, third.json()["ahead"]) == (202, 1)
    deadline = time.monotonic() + JOB_SECONDS
    while not (running := children(worker)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for child in running:
        child.send_signal(signal.SIGKILL)
    assert labels(client, "a", "b") == ["a"] * 3 + ["b"] * 3
    for response in (second, third):
        assert finished(client, response.json()["job"]["id"])["state"] == "succeeded"
    listed = client.get("/v1/streams/points/versions").json()["items"]
    assert [version["task"] for version in listed] == ["third", "second", "first"]
    assert labels(client, "a", "d", "e") == ["a"] * 3 + ["d"] * 3 + ["e"] * 3

    back = client.post("/v1/streams/points/rollback", json={"version": 2})
    assert (back.status_code, back.json()["version"]) == (200, 2)
    assert set(labels(client, "e", "f")) <= {"a", "b", "c", "d"}, "the third is not known to what answers"
    client.post("/v1/streams/points/rollback", json={"version": 3})

    forgetting = client.post("/v1/streams/points/tasks/second/forget").json()
    assert finished(client, forgetting["job"]["id"])["state"] == "succeeded"
    problem(ask(client, queries=rows("c"), task="second"), 410, "stream_task_forgotten")
    problem(ask(client, queries=rows("c"), task="second", version=2), 404, "stream_version_not_found")
    assert labels(client, "a", "e") == ["a"] * 3 + ["e"] * 3
    problem(client.post("/v1/streams/points/tasks/second/forget"), 410, "stream_task_forgotten")

    for dataset in client.get("/v1/datasets").json()["items"]:
        assert client.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert client.delete("/v1/streams/points").status_code == 204
    left = [path for path in (worker.data_dir / "blobs").rglob("*") if path.is_file()]
    assert left == []
