"""Clients that are slow, leave, or come in numbers."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.app.problems import OK, problem
from tests.app.server import Server

BODY_SECONDS = "1"
HELD_BYTES = str(3 << 20)


@pytest.fixture(scope="module")
def tight(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of little patience, memory and queue."""
    environment = {
        "HYPERSERVE_BODY_SECONDS": BODY_SECONDS,
        "HYPERSERVE_BODY_BYTES": HELD_BYTES,
        "HYPERSERVE_QUEUE_LIMIT": "2",
        # The flag of the command line stands over it.
        "HYPERSERVE_PORT": "1",
    }
    own = Server(tmp_path_factory.mktemp("load") / "data", zoo, environment)
    own.start()
    yield own
    own.stop()


def connect(server: Server, headers: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(f"POST /v1/predict HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
    return connection


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and all that came until the server closed."""
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return int(data.split()[1]), data


def test_slow_body(tight: Server) -> None:
    with connect(tight, "Content-Type: application/json\r\nContent-Length: 100") as connection:
        connection.sendall(b'{"support"')
        status, data = answer(connection)
    assert status == 408
    assert b'"code":"body_timeout"' in data


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/predict", {"Content-Type": "application/json"}, 413),
        ("/v1/predict", {"Content-Type": "text/plain"}, 415),
        ("/v1/tasks/task_0/predict", {"Content-Type": "application/json"}, 404),
        ("/livez", {}, 405),
        ("/nowhere", {}, 404),
    ],
)
def test_refused_body_of_a_client_that_sends_before_it_reads(
    tight: Server, path: str, headers: dict[str, str], status: int
) -> None:
    """`http.client` sends the whole body first; without draining it would see its connection reset."""
    connection = http.client.HTTPConnection("127.0.0.1", tight.port, timeout=20)
    for _ in range(2):
        connection.request("POST", path, body=bytes(40 << 20), headers=headers)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        answer.read()
    connection.close()


def test_client_that_leaves(tight: Server) -> None:
    for _ in range(20):
        with connect(tight, "Content-Type: application/json\r\nContent-Length: 2000000") as connection:
            connection.sendall(b" " * 1_000_000)
    time.sleep(0.2)
    ok = tight.client.post("/v1/predict", json={"support": {"a": OK, "b": OK}, "queries": OK})
    assert ok.status_code == 200, ok.text
    assert '"exception"' not in tight.log.read_text()


def test_more_bodies_than_memory(tight: Server) -> None:
    response = tight.client.post(
        "/v1/predict", content=b" " * (4 << 20), headers={"Content-Type": "application/json"}
    )
    problem(response, 503, "busy")
    assert int(response.headers["retry-after"]) >= 1


def test_more_requests_than_the_queue_takes(tight: Server) -> None:
    """Some are answered, the rest are told when to come back; nobody waits for ever."""
    support = {str(way): [[float(way), 1.0]] * 10 for way in range(300)}
    body = json.dumps({"support": support, "queries": [[1.0, 1.0]] * 100, "top": 1}).encode()

    def post(_: int) -> httpx.Response:
        return httpx.post(
            f"{tight.url}/v1/predict", content=body, headers={"Content-Type": "application/json"}, timeout=30
        )

    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(post, range(32)))
    assert {response.status_code for response in responses} == {200, 503}
    for response in responses:
        if response.status_code == 503:
            problem(response, 503, "busy")
            assert int(response.headers["retry-after"]) >= 1
    assert tight.client.get("/readyz").status_code == 200


def test_answer_that_nobody_waits_for(tight: Server) -> None:
    """Its place in the queue is free again, and the log is quiet."""
    support = {str(way): [[float(way), 1.0]] * 10 for way in range(900)}
    body = json.dumps({"support": support, "queries": [[1.0, 1.0]] * 1000, "top": 1}).encode()
    for _ in range(6):
        with connect(tight, f"Content-Type: application/json\r\nContent-Length: {len(body)}") as connection:
            connection.sendall(body)
            time.sleep(0.1)
    deadline = time.monotonic() + 10
    ask = {"support": {"a": OK, "b": OK}, "queries": OK}
    while tight.client.post("/v1/predict", json=ask).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert '"exception"' not in tight.log.read_text()
