"""Bounds of a connection: sizes of headers and URLs, silence, malformed input, the number of connections."""

from __future__ import annotations

import functools
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from app.http import connections
from app.http.connections import HEADER_BYTES, Connections, GuardedProtocol, connection_limit

MOST = 5
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the number of bytes of the body once it is complete; /large sends more than a socket holds."""
    assert scope["type"] == "http"
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"x" * (64 << 20) if scope["path"] == "/large" else b"%d" % size
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Guarded:
    """A server in a thread of the tests."""

    port: int

    def open(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(10)
        return connection

    def exchange(self, *pieces: bytes) -> list[tuple[int, bytes]]:
        """Send pieces, and return the status and body of every response until the server closes."""
        with self.open() as connection:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.02)
            return responses(received(connection))


def received(connection: socket.socket) -> bytes:
    chunks = []
    while chunk := connection.recv(1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def responses(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields[b"content-length"])
        found.append((int(head.split()[1]), data[:length]))
        data = data[length:]
    return found


def code(response: tuple[int, bytes]) -> tuple[int, str]:
    """Return the status and the code of a problem, having checked that both agree."""
    document: dict[str, Any] = json.loads(response[1])
    assert document["status"] == response[0]
    assert document["type"] == f"/problems/{document['code']}"
    return response[0], document["code"]


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guarded]:
    monkeypatch.setattr(connections, "WAIT_SECONDS", 1.0)
    monkeypatch.setattr(connections, "SPEAKING_SECONDS", 0.5)
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.2)
    monkeypatch.setattr(connections, "STALLED_WAITS", 2)
    yield from _running()


@pytest.fixture(scope="module")
def patient() -> Iterator[Guarded]:
    """A server with the deadlines of production."""
    yield from _running()


def _running() -> Iterator[Guarded]:
    config = uvicorn.Config(
        application,
        http=functools.partial(GuardedProtocol, Connections(MOST)),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Guarded(listener.getsockname()[1])
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("path", [HEADER_BYTES - 1, 100, 20_000])
@pytest.mark.parametrize("value", [HEADER_BYTES - 200, 100, 20_000])
def test_what_is_below_the_limits_is_served(patient: Guarded, path: int, value: int) -> None:
    request = b"GET /" + b"a" * (path - 1) + b" HTTP/1.1\r\nHost: x\r\nX-A: " + b"b" * value + b"\r\n" + CLOSE
    for cut in (len(request), 1000, 40_000):
        assert patient.exchange(request[:cut], request[cut:]) == [(200, b"0")]


TOO_LARGE = {
    "URL": (b"GET /" + b"a" * HEADER_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "url_too_long"),
    "query": (b"GET /?" + b"a=b&" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "url_too_long"),
    "URL without end": (b"GET /" + b"a" * 400_000, 414, "url_too_long"),
    "URL of megabytes": (b"GET /" + b"a" * 4_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "url_too_long"),
    "value": (HEAD + b"X-A: " + b"a" * HEADER_BYTES + b"\r\n\r\n", 431, "headers_too_large"),
    "value without end": (HEAD + b"X-A: " + b"a" * 400_000, 431, "headers_too_large"),
    "name without end": (HEAD + b"a" * 400_000, 431, "headers_too_large"),
    "cookies": (HEAD + b"Cookie: a=b\r\n" * 4_000 + b"\r\n", 431, "headers_too_large"),
    "many headers": (HEAD + b"a: b\r\n" * 6_000 + b"\r\n", 431, "headers_too_large"),
    "headers without end": (HEAD + b"a: b\r\n" * 60_000, 431, "headers_too_large"),
    "blanks without end": (HEAD + b"a:" + b" " * 400_000, 431, "headers_too_large"),
    "trailer without end": (CHUNKED + b"1\r\n{\r\n0\r\nX: " + b"a" * 700_000, 431, "headers_too_large"),
}


@pytest.mark.parametrize("pieces", [1, 2, 7])
@pytest.mark.parametrize("kind", TOO_LARGE)
def test_what_is_too_large_is_refused(patient: Guarded, kind: str, pieces: int) -> None:
    request, status, problem = TOO_LARGE[kind]
    size = -(-len(request) // pieces)
    cuts = [request[start : start + size] for start in range(0, len(request), size)]
    (response,) = patient.exchange(*cuts)
    assert code(response) == (status, problem)


def test_a_header_after_a_body_counts_alone(patient: Guarded) -> None:
    body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 190_000
    following = HEAD + b"X-A: " + b"a" * (HEADER_BYTES - 100)
    assert patient.exchange(body, b"x" * 10_000 + following, b"\r\n" + CLOSE) == [
        (200, b"200000"),
        (200, b"0"),
    ]


@pytest.mark.parametrize("start", [HEAD + b"X-A: ", HEAD, b"GET /"], ids=["value", "headers", "URL"])
def test_endless_input_costs_no_memory(patient: Guarded, start: bytes) -> None:
    block = b"a: b\r\n" * 100_000 if start == HEAD else b"a" * 600_000
    before = psutil.Process().memory_info().rss
    sent = 0
    with patient.open() as connection, suppress(ConnectionError):
        connection.sendall(start)
        while sent < 200 * len(block):
            connection.sendall(block)
            sent += len(block)
    assert sent < 100 * len(block)
    assert psutil.Process().memory_info().rss - before < 40 << 20


MALFORMED = {
    "no method": b"\r\n:\r\n\r\n",
    "unknown method": b"GARBAGE / HTTP/1.1\r\n\r\n",
    "protocol": b"GET / XTTP/1.1\r\n\r\n",
    "version": b"GET / HTTP/7\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "target": b"GET \xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "header without colon": HEAD + b"nothing\r\n\r\n",
    "blank in a name": HEAD + b"a b: c\r\n\r\n",
    "NUL in a value": HEAD + b"a: \x00\r\n\r\n",
    "bare CR": HEAD + b"a: b\rc: d\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
    "chunk size": CHUNKED + b"ZZ\r\n",
    "chunk end": CHUNKED + b"1\r\naXX\r\n",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_http_is_a_problem(patient: Guarded, kind: str) -> None:
    (response,) = patient.exchange(MALFORMED[kind])
    assert code(response) == (400, "malformed_request")


@given(data=st.binary(min_size=1, max_size=300).map(lambda data: data + b"\r\n\r\n\x00"))
def test_any_bytes_are_answered_by_problems(patient: Guarded, data: bytes) -> None:
    with patient.open() as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        for response in responses(received(connection)):
            assert code(response)[0] in (400, 431)


def test_a_request_before_malformed_input_is_answered(patient: Guarded) -> None:
    assert patient.exchange(HEAD + b"\r\n" + b"GARBAGE\r\n\r\n") == [(200, b"0")]


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_an_upgrade_is_ignored(patient: Guarded, protocol: bytes) -> None:
    request = HEAD + b"Connection: Upgrade, close\r\nUpgrade: " + protocol + b"\r\n\r\n"
    assert patient.exchange(request) == [(200, b"0")]


WAITING = {
    "silent": (b"", []),
    "blank lines": (b"\r\n\r\n", []),
    "half a line": (b"GET / HT", []),
    "half a header line": (HEAD + b"Acc", []),
    "no blank line": (HEAD, [(408, "header_timeout")]),
}


@pytest.mark.parametrize("kind", WAITING)
def test_a_connection_that_waits_for_its_client_ends(guarded: Guarded, kind: str) -> None:
    sent, expected = WAITING[kind]
    started = time.monotonic()
    assert [code(response) for response in guarded.exchange(sent)] == expected
    assert 0.9 < time.monotonic() - started < 4


def test_an_idle_connection_ends(guarded: Guarded) -> None:
    started = time.monotonic()
    assert guarded.exchange(HEAD + b"\r\n") == [(200, b"0")]
    assert 0.9 < time.monotonic() - started < 4


def test_a_client_that_sends_its_header_slowly_is_told(guarded: Guarded) -> None:
    with guarded.open() as connection:
        connection.sendall(HEAD)
        for _ in range(15):
            try:
                connection.sendall(b"a")
            except OSError:
                break
            time.sleep(0.1)
        assert code(responses(received(connection))[0]) == (408, "header_timeout")


def test_a_slow_body_and_a_slow_application_are_not_cut_off(guarded: Guarded) -> None:
    with guarded.open() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + CLOSE + b"a")
        time.sleep(2)
        connection.sendall(b"b")
        assert responses(received(connection)) == [(200, b"2")]


def test_a_client_that_reads_nothing_is_cut_off(guarded: Guarded) -> None:
    with guarded.open() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(6)
        read = 0
        with suppress(ConnectionError):
            while chunk := connection.recv(1 << 20):
                read += len(chunk)
        assert read < 64 << 20


def test_a_slow_reader_is_not_cut_off(guarded: Guarded) -> None:
    with guarded.open() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        size, started = 0, time.monotonic()
        while size < 64 << 20:
            size += len(connection.recv(1 << 20))
            time.sleep(0.05)
        assert time.monotonic() - started > 3


def test_silent_connections_make_room(patient: Guarded) -> None:
    silent = [patient.open() for _ in range(4 * MOST)]
    for _ in range(3):
        assert patient.exchange(HEAD + CLOSE) == [(200, b"0")]
    for connection in silent[:MOST]:
        assert connection.recv(1) == b""
    for connection in silent:
        connection.close()


def test_one_connection_too_many_is_refused(patient: Guarded) -> None:
    """Requests whose bodies are under way are not given up for new ones."""
    time.sleep(0.3)
    busy = [patient.open() for _ in range(MOST)]
    for connection in busy:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + CLOSE + b"a")
    time.sleep(0.2)
    with patient.open() as refused:
        assert code(responses(received(refused))[0]) == (503, "busy")
    for connection in busy:
        connection.sendall(b"b")
        assert responses(received(connection)) == [(200, b"2")]
        connection.close()
    assert patient.exchange(HEAD + CLOSE) == [(200, b"0")]


@pytest.mark.parametrize(
    ("files", "most", "expected"),
    [(1024, 4096, 768), (1 << 20, 4096, 4096), (256, 4096, 128), (1024, 100, 100), (-1, 4096, 4096)],
)
def test_connections_leave_descriptors_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, files: int, most: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (files, files))
    assert connection_limit(most) == expected


@pytest.mark.parametrize("refused", [None, ValueError, OSError])
def test_the_limit_of_files_is_raised(
    monkeypatch: pytest.MonkeyPatch, refused: type[Exception] | None
) -> None:
    calls: list[tuple[int, int]] = []

    def change(_what: int, limits: tuple[int, int]) -> None:
        calls.append(limits)
        if refused is not None:
            raise refused

    monkeypatch.setattr(resource, "getrlimit", lambda _what: (1024, 65536))
    monkeypatch.setattr(resource, "setrlimit", change)
    raise_limit: Callable[[], None] = connections.raise_file_limit
    raise_limit()
    assert calls == [(65536, 65536)]
