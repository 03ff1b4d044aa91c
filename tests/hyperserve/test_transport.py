"""Retries, Retry-After, malformed answers and timeouts, against a real server that misbehaves on request."""

import copy
import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

import hyperserve as hs
from hyperserve.requests import Request
from hyperserve.retries import RetryPolicy, parse_retry_after
from hyperserve.sync.transport import Transport
from hyperserve.types import Health
from tests.hyperserve.scripted import Reply, problem, scripted

FAST = RetryPolicy(max_retries=2, first_wait=0.01)
OK = Reply(body={"status": "ok"})
GONE = Reply(body=None)
X = Request("GET", "/x")
ONCE = Request("POST", "/x", repeatable=False)


def transport(url: str, policy: RetryPolicy = FAST, timeout: float = 5) -> Transport:
    return Transport(httpx.Client(base_url=url, timeout=timeout), policy)


def failing(status: int, **headers: str) -> Reply:
    return Reply(status, problem(status), {name.replace("_", "-"): value for name, value in headers.items()})


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("first", [failing(503), failing(429), GONE])
def test_a_passing_failure_is_tried_again(first: Reply) -> None:
    with scripted(first, first, OK) as server:
        assert transport(server.url).fetch(Health, X).status == "ok"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (failing(503), hs.ServiceUnavailableError),
        (failing(429), hs.RateLimitError),
        (GONE, hs.ConnectionFailedError),
    ],
)
def test_retries_end(reply: Reply, error: type[Exception]) -> None:
    with scripted(reply) as server, pytest.raises(error):
        transport(server.url).send(X)
    assert len(server.requests) == 1 + FAST.max_retries


@pytest.mark.parametrize("status", [400, 404, 413, 422, 500, 502])
def test_an_answer_that_will_not_change_is_not_asked_for_again(status: int) -> None:
    with scripted(failing(status)) as server, pytest.raises(hs.StatusError):
        transport(server.url).send(X)
    assert len(server.requests) == 1


def test_what_may_have_been_done_is_not_done_twice() -> None:
    with scripted(GONE, OK) as server, pytest.raises(hs.ConnectionFailedError):
        transport(server.url).send(ONCE)
    assert len(server.requests) == 1


def test_what_was_refused_is_tried_again_even_if_not_repeatable() -> None:
    with scripted(failing(503), failing(429), OK) as server:
        transport(server.url).send(Request("POST", "/x", body=b'{"a": 1}', repeatable=False))
    assert [request.body for request in server.requests] == [{"a": 1}] * 3


def test_a_closed_port_is_tried_again_even_if_not_repeatable() -> None:
    started = time.monotonic()
    with pytest.raises(hs.ConnectionFailedError, match="refused"):
        transport(f"http://127.0.0.1:{closed_port()}", RetryPolicy(1, 0.2)).send(ONCE)
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize(
    "write", [lambda: "1", lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2))]
)
def test_retry_after_is_obeyed(write: Callable[[], str]) -> None:
    with scripted(failing(503, Retry_After=write()), OK) as server:
        transport(server.url).send(X)
    first, second = server.requests
    assert 0.95 <= second.at - first.at < 3


def test_a_longer_retry_after_than_the_client_waits_is_raised() -> None:
    with scripted(failing(429, Retry_After="3600")) as server, pytest.raises(hs.RateLimitError) as raised:
        transport(server.url).send(X)
    assert (raised.value.retry_after, len(server.requests)) == (3600, 1)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("0", 0),
        (" 7 ", 7),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
        ("Wed, 99 Oct 2015", None),
    ],
)
def test_retry_after_in_every_form(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_waits_double_with_jitter_up_to_a_limit() -> None:
    policy = RetryPolicy(first_wait=1, longest_wait=4)
    for attempt, longest in enumerate([1, 2, 4, 4]):
        waits = [policy.wait(attempt, None) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
    assert all(3 <= policy.wait(0, 3) <= 3.3 for _ in range(50))


def test_a_slow_answer_is_a_timeout_and_not_asked_for_again() -> None:
    slow = Reply(body={"status": "ok"}, delay=0.5)
    with (
        scripted(slow) as server,
        pytest.raises(hs.TimeoutFailedError, match=f"GET {server.url}/x: no response within"),
    ):
        transport(server.url, timeout=0.1).send(X)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>hello</html>", b"[]", b'{"status": "perhaps"}', b'{"status"', b"\xff"]
)
def test_an_answer_that_is_not_the_wire_is_malformed(body: bytes) -> None:
    with scripted(Reply(body=body)) as server, pytest.raises(hs.MalformedAnswerError, match="not a Health"):
        transport(server.url).fetch(Health, X)


def test_an_answer_cut_short_is_a_failed_connection() -> None:
    cut = Reply(body=b'{"status"', headers={"Content-Length": "500", "Connection": "close"})
    with scripted(cut) as server, pytest.raises(hs.ConnectionFailedError):
        transport(server.url, RetryPolicy(0)).send(X)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, hs.StatusError),
        (400, hs.BadRequestError),
        (404, hs.NotFoundError),
        (405, hs.BadRequestError),
        (409, hs.ConflictError),
        (410, hs.GoneError),
        (412, hs.PreconditionFailedError),
        (413, hs.TooLargeError),
        (415, hs.BadRequestError),
        (422, hs.UnprocessableError),
        (429, hs.RateLimitError),
        (500, hs.ServerError),
        (503, hs.ServiceUnavailableError),
        (599, hs.ServerError),
    ],
)
def test_each_family_of_statuses_has_its_error(status: int, error: type[hs.StatusError]) -> None:
    items = [{"pointer": "/support/cat/3", "code": "truncated_image", "detail": "The image ends early."}]
    reply = Reply(status, problem(status, "a_code", errors=items))
    with scripted(reply) as server, pytest.raises(hs.StatusError) as raised:
        transport(server.url, RetryPolicy(0)).send(X)
    assert type(raised.value) is error
    assert (raised.value.status, raised.value.code, raised.value.request_id) == (status, "a_code", "req_1")
    assert str(raised.value) == (
        "A title: What happened. [a_code, request req_1]\n  /support/cat/3: The image ends early."
    )


def test_an_error_of_something_else_has_no_problem() -> None:
    reply = Reply(502, b"<html>bad gateway</html>")
    with (
        scripted(reply) as server,
        pytest.raises(hs.ServerError, match="HTTP 502 Bad Gateway without") as raised,
    ):
        transport(server.url).send(X)
    assert (raised.value.problem, raised.value.code, raised.value.request_id) == (None, None, None)


def test_errors_cross_process_borders() -> None:
    with scripted(failing(429, Retry_After="99")) as server, pytest.raises(hs.RateLimitError) as raised:
        transport(server.url).send(X)
    twin = copy.copy(raised.value)  # rebuilt in the way of pickle
    assert (type(twin), str(twin), twin.retry_after) == (hs.RateLimitError, str(raised.value), 99)


@pytest.mark.parametrize(
    ("size", "compress", "packed"), [(20_000, True, True), (20_000, False, False), (9, True, False)]
)
def test_large_json_is_compressed_on_request(size: int, compress: bool, packed: bool) -> None:
    body = json.dumps("x" * size).encode()
    with scripted(Reply()) as server, httpx.Client(base_url=server.url) as http:
        Transport(http, RetryPolicy(0), compress).send(Request("POST", "/x", body=body))
        (received,) = server.requests
    assert received.headers.get("content-encoding") == ("gzip" if packed else None)
    assert received.body == "x" * size
