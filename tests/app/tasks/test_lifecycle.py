"""What outlives a request, a process, a kill; and what does not outlive a deletion."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest

from tests.app.problems import OK, create
from tests.app.server import Server

B64 = Callable[..., str]


def ask(server: Server, task: str, queries: list[Any]) -> list[dict[str, Any]]:
    response = server.client.post(f"/v1/tasks/{task}/predict", json={"queries": queries})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def rows(server: Server) -> dict[str, int]:
    with closing(sqlite3.connect(server.data_dir / "hyperserve.db")) as connection:
        tables = ("tasks", "versions", "examples", "version_examples")
        return {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


@pytest.mark.parametrize(("how", "features"), [(signal.SIGTERM, "kept"), (signal.SIGKILL, "lost")])
def test_restart_keeps_tasks_and_answers(
    own_server: Server, b64: B64, how: signal.Signals, features: str
) -> None:
    """After a kill as well; without the cached features the weights come from the raw inputs."""
    own_server.start()
    support = {"cat": [b64(0), b64(2)], "dog": [b64(30)]}
    task = create(own_server.client, learner="glyphs", support=support).json()["id"]
    before = own_server.client.get(f"/v1/tasks/{task}").json()
    answers = ask(own_server, task, [b64(1), b64(20)])
    own_server.stop(how)
    if features == "lost":
        shutil.rmtree(own_server.data_dir / "blobs" / "features")
    own_server.start()
    assert own_server.client.get(f"/v1/tasks/{task}").json() == before
    for old, new in zip(answers, ask(own_server, task, [b64(1), b64(20)]), strict=True):
        assert new["label"] == old["label"]
        assert new["probabilities"] == pytest.approx(old["probabilities"], abs=1e-5)
    assert len(own_server.features()) == 1


def test_terminated_within_five_seconds(own_server: Server) -> None:
    own_server.start()
    create(own_server.client, support={"a": OK, "b": OK})
    assert own_server.stop(signal.SIGTERM) < 5
    assert own_server.process.returncode == 0 or own_server.process.returncode == -signal.SIGTERM


def test_ready_within_four_seconds(own_server: Server) -> None:
    own_server.start(wait=False)
    # Twice the promised time: the tests may share their machine with a training.
    assert own_server.wait_until_ready() < 8


def test_warm_predict_reads_no_database(own_server: Server) -> None:
    """Without its database the server still answers what it holds."""
    own_server.start()
    task = create(own_server.client, support={"a": OK, "b": OK}).json()["id"]
    answers = ask(own_server, task, OK)
    for file in own_server.data_dir.glob("hyperserve.db*"):
        file.write_bytes(b"")
        file.unlink()
    shutil.rmtree(own_server.data_dir / "blobs")
    assert ask(own_server, task, OK) == answers


def test_delete_purges(own_server: Server, b64: B64) -> None:
    """Rows, features and inputs; inputs that another task holds stay until it goes."""
    own_server.start()
    client = own_server.client
    first = create(client, learner="glyphs", support={"cat": [b64(0), b64(2)], "dog": [b64(30)]}).json()["id"]
    second = create(client, learner="glyphs", support={"cat": [b64(0)], "dog": [b64(9)]}).json()["id"]
    answers = ask(own_server, second, [b64(1)])
    assert (len(own_server.blobs()), len(own_server.features())) == (4, 2)
    assert client.delete(f"/v1/tasks/{first}").status_code == 204
    assert (len(own_server.blobs()), len(own_server.features())) == (2, 1)
    assert rows(own_server) == {"tasks": 1, "versions": 1, "examples": 2, "version_examples": 2}
    own_server.stop()
    own_server.start()
    assert ask(own_server, second, [b64(1)])[0]["label"] == answers[0]["label"]
    assert own_server.client.delete(f"/v1/tasks/{second}").status_code == 204
    assert (own_server.blobs(), own_server.features()) == ([], [])
    assert set(rows(own_server).values()) == {0}


def test_failure_to_commit_stores_nothing(own_server: Server, b64: B64) -> None:
    """A database that refuses: the answer is a problem, and the blobs written before are taken back."""
    own_server.start()
    with closing(sqlite3.connect(own_server.data_dir / "hyperserve.db")) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON version_examples BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    response = create(own_server.client, learner="glyphs", support={"a": [b64(0)], "b": [b64(1)]})
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert response.json()["code"] == "internal_error"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert (own_server.blobs(), own_server.features()) == ([], [])
    assert set(rows(own_server).values()) == {0}
    assert own_server.client.get("/v1/tasks").json()["items"] == []


def test_locked_database_is_busy(own_server: Server) -> None:
    """Another process holds the database for longer than the patience of this one."""
    own_server.start()
    with closing(sqlite3.connect(own_server.data_dir / "hyperserve.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        response = create(own_server.client, support={"a": OK, "b": OK})
        assert (response.status_code, response.json()["code"]) == (503, "busy")
        assert int(response.headers["retry-after"]) >= 1
        connection.execute("ROLLBACK")
    other = create(own_server.client, support={"a": [[1.0]], "b": [[2.0]]}).json()["id"]
    own_server.client.delete(f"/v1/tasks/{other}")
    assert own_server.blobs() == []


def test_same_inputs_at_once(own_server: Server) -> None:
    """Tasks of the same inputs come and go side by side; no task loses an input to another's deletion."""
    from concurrent.futures import ThreadPoolExecutor

    own_server.start()

    def come_and_go(index: int) -> str:
        with httpx.Client(base_url=own_server.url, timeout=30) as client:
            for _ in range(5):
                gone = create(client, support={"a": OK, "b": OK}).json()["id"]
                assert client.delete(f"/v1/tasks/{gone}").status_code == 204
            kept: str = create(client, support={"a": OK, "b": OK}).json()["id"]
            return kept

    with ThreadPoolExecutor(6) as pool:
        tasks = list(pool.map(come_and_go, range(6)))
    assert len(own_server.blobs()) == 2
    shutil.rmtree(own_server.data_dir / "blobs" / "features")
    own_server.stop(signal.SIGKILL)
    own_server.start()
    for task in tasks:
        assert len(ask(own_server, task, OK)) == 2
