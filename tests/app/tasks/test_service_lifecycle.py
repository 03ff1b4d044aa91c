"""What outlives a request, a process, a kill; and what does not outlive a deletion."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.problems import OK, create, problem
from tests.app.server import Server
from tests.app.tasks.database_rows import assert_empty, database, rows

B64 = Callable[..., str]


@pytest.fixture(scope="module")
def roomy(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of this file that leave it empty."""
    own = Server(tmp_path_factory.mktemp("lifecycle") / "data", zoo)
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="module")
def served(
    zoo: Path, postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The same on PostgreSQL and Redis."""
    environment = {
        "HYPERSERVE_DATABASE_URL": postgres_url,
        "HYPERSERVE_REDIS_URL": redis_url,
        "HYPERSERVE_SECRET": "sixteen or more characters",
    }
    own = Server(tmp_path_factory.mktemp("served") / "data", zoo, environment)
    own.start()
    yield own
    own.stop()


@pytest.fixture(params=["sqlite", "postgresql and redis"])
def either(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue("roomy" if request.param == "sqlite" else "served")
    return found


def ask(server: Server, task: str, queries: list[Any]) -> list[dict[str, Any]]:
    response = server.client.post(f"/v1/tasks/{task}/predict", json={"queries": queries})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def test_restarts_keep_tasks_and_answers(own_server: Server, b64: B64) -> None:
    """After a kill as well; without the cached features the weights come from the raw inputs."""
    own_server.start()
    support = {"cat": [b64(0), b64(2)], "dog": [b64(30)]}
    task = create(own_server.client, learner="glyphs", support=support).json()["id"]
    before = own_server.client.get(f"/v1/tasks/{task}").json()
    answers = ask(own_server, task, [b64(1), b64(20)])

    def assert_same() -> None:
        own_server.start()
        assert own_server.client.get(f"/v1/tasks/{task}").json() == before
        for old, new in zip(answers, ask(own_server, task, [b64(1), b64(20)]), strict=True):
            assert new["label"] == old["label"]
            assert new["probabilities"] == pytest.approx(old["probabilities"], abs=1e-5)
        assert len(own_server.features()) == 1

    own_server.stop(signal.SIGKILL)
    assert_same()
    assert own_server.stop(signal.SIGTERM) < 5
    shutil.rmtree(own_server.data_dir / "blobs" / "features")
    assert_same()


def test_warm_predict_reads_no_database(own_server: Server) -> None:
    """Without its database and its blobs the server still answers what it holds."""
    own_server.start()
    task = create(own_server.client, support={"a": OK, "b": OK}).json()["id"]
    answers = ask(own_server, task, OK)
    for file in own_server.data_dir.glob("hyperserve.db*"):
        # The server has mapped the third of them, and would die of its end.
        if not file.name.endswith("-shm"):
            file.write_bytes(b"")
        file.unlink()
    shutil.rmtree(own_server.data_dir / "blobs")
    assert ask(own_server, task, OK) == answers


def test_term_drains(own_server: Server) -> None:
    """A request in flight is answered, and the process is gone within 5 s."""
    own_server.start()
    support = {str(way): [[float(way), float(shot)] for shot in range(3)] for way in range(300)}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(create, own_server.client, support=support)
        time.sleep(0.2)
        started = time.monotonic()
        own_server.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 201
        own_server.process.wait(timeout=10)
    assert time.monotonic() - started < 5
    assert rows(own_server)["examples"] == 900


def test_delete_purges(either: Server, b64: B64) -> None:
    """Rows, features and inputs; inputs that another task holds stay until it goes."""
    first = create(
        either.client, learner="glyphs", support={"cat": [b64(0), b64(2)], "dog": [b64(30)]}
    ).json()["id"]
    second = create(either.client, learner="glyphs", support={"cat": [b64(0)], "dog": [b64(9)]}).json()["id"]
    assert (len(either.blobs()), len(either.features())) == (4, 2)
    assert either.client.delete(f"/v1/tasks/{first}").status_code == 204
    assert (len(either.blobs()), len(either.features())) == (2, 1)
    assert rows(either) == {"tasks": 1, "versions": 1, "examples": 2, "version_examples": 2}
    assert either.client.delete(f"/v1/tasks/{second}").status_code == 204
    assert_empty(either)


def test_failure_to_commit_stores_nothing(roomy: Server, b64: B64) -> None:
    """A database that refuses: the answer is a problem, and the blobs written before are taken back."""
    with closing(database(roomy)) as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON version_examples BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        response = create(roomy.client, learner="glyphs", support={"a": [b64(0)], "b": [b64(1)]})
        connection.execute("DROP TRIGGER refuse")
    problem(response, 500, "internal_error")
    assert "refuse" not in response.text
    assert_empty(roomy)
    assert roomy.client.get("/v1/tasks").json()["items"] == []


def test_lost_tables_are_a_fault_of_the_server(own_server: Server) -> None:
    """Not a database that will be back: nobody would look for what is wrong."""
    own_server.start()
    with closing(database(own_server)) as connection:
        connection.execute("ALTER TABLE versions RENAME TO lost")
        problem(own_server.client.get("/v1/tasks"), 500, "internal_error")
        connection.execute("ALTER TABLE lost RENAME TO versions")
    assert own_server.client.get("/v1/tasks").status_code == 200


def test_locked_database_is_busy(roomy: Server) -> None:
    """Another process holds the database for longer than the patience of this one."""
    with closing(database(roomy)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        response = create(roomy.client, support={"a": OK, "b": OK})
        connection.execute("ROLLBACK")
    problem(response, 503, "busy")
    assert int(response.headers["retry-after"]) >= 1
    other = create(roomy.client, support={"a": [[1.0]], "b": [[2.0]]}).json()["id"]
    roomy.client.delete(f"/v1/tasks/{other}")
    assert_empty(roomy)


def test_same_inputs_at_once(either: Server) -> None:
    """Tasks of the same inputs come and go side by side; none loses an input to another's deletion."""

    def come_and_go(_: int) -> str:
        with httpx.Client(base_url=either.url, timeout=30) as client:
            for _ in range(4):
                gone = create(client, support={"a": OK, "b": OK}).json()["id"]
                assert client.delete(f"/v1/tasks/{gone}").status_code == 204
            kept: str = create(client, support={"a": OK, "b": OK}).json()["id"]
            return kept

    with ThreadPoolExecutor(6) as pool:
        tasks = list(pool.map(come_and_go, range(6)))
    assert (len(either.blobs()), len(either.features())) == (2, 6)
    for task in tasks:
        assert either.client.delete(f"/v1/tasks/{task}").status_code == 204
    assert_empty(either)


def test_deleted_while_it_is_asked(either: Server) -> None:
    """Answers until the deletion, 404 from then on; nothing else."""
    task = create(either.client, support={"a": OK, "b": OK}).json()["id"]
    statuses: list[int] = []
    gone = threading.Event()

    def keep_asking() -> None:
        with httpx.Client(base_url=either.url, timeout=30) as client:
            while not gone.is_set():
                statuses.append(client.post(f"/v1/tasks/{task}/predict", json={"queries": OK}).status_code)
            statuses.append(client.post(f"/v1/tasks/{task}/predict", json={"queries": OK}).status_code)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(keep_asking) for _ in range(2)]
        time.sleep(0.3)
        either.client.delete(f"/v1/tasks/{task}")
        gone.set()
        for done in asking:
            done.result()
    assert set(statuses) == {200, 404}
    assert statuses[-1] == 404
    assert_empty(either)


@pytest.mark.slow
def test_two_processes(own_server: Server) -> None:
    """What one process stores the other answers, and a deletion is seen by both within 2 s."""
    own_server.environment = {"HYPERSERVE_WORKERS": "2"}
    own_server.start()
    time.sleep(3)
    task = create(own_server.client, support={"a": OK, "b": OK}).json()["id"]

    def statuses() -> set[int]:
        """Each request on a connection of its own, so that both processes are asked."""
        address = f"{own_server.url}/v1/tasks/{task}/predict"
        return {httpx.post(address, json={"queries": OK}).status_code for _ in range(40)}

    assert statuses() == {200}
    assert own_server.client.delete(f"/v1/tasks/{task}").status_code == 204
    time.sleep(2)
    assert statuses() == {404}
    assert_empty(own_server)
    assert own_server.stop(signal.SIGTERM) < 6
