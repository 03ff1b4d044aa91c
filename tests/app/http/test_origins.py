"""Requests that web pages make: names that the server answers for, and pages that may change anything."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.middleware import RequestContext
from app.http.origins import AllowedHosts, OriginGuard, cors_middleware
from tests.app.problems import problem
from tests.app.server import Server

ALLOWED = ("hs.example.com", "*.corp.example")
CORS = ("http://localhost:3000", "https://app.example.com")
OWN = "http://localhost:8000"
WRITES = ("POST", "PUT", "PATCH", "DELETE")
READS = ("GET", "HEAD", "OPTIONS")


async def written(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond 201 and remember nothing: what reaches this would have changed something."""
    await Response("{}", 201, {"ETag": '"1"', "Location": "/x"})(Request(scope, receive).scope, receive, send)


def served(allowed: tuple[str, ...] = ALLOWED, cors: tuple[str, ...] = CORS) -> ASGIApp:
    inner = cors_middleware(written, cors) if cors else written
    return RequestContext(OriginGuard(inner, AllowedHosts("127.0.0.1", allowed), cors))


async def send(app: ASGIApp, method: str = "POST", **headers: str) -> httpx.Response:
    """Send a request whose headers are named with `_` for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=OWN) as client:
        return await client.request(method, "/", headers=named)


def run(app: ASGIApp, method: str = "POST", **headers: str) -> httpx.Response:
    return asyncio.run(send(app, method, **headers))


OWN_NAMES = [
    "localhost",
    "LOCALHOST:8000",
    "localhost.",
    "a.localhost:3",
    "127.0.0.1",
    "127.0.0.1:80",
    "127.9.9.9",
    "[::1]:8000",
    "[2001:db8::1]",
    "192.168.1.20:8000",
    "203.0.113.5",
    "api",
    "project_api_1:8000",
    "host.docker.internal:8000",
    "hyperserve.default.svc",
    "hyperserve.default.svc.cluster.local",
    "hs.example.com",
    "HS.example.com:443",
    "corp.example",
    "a.b.corp.example:99",
    socket.gethostname(),
]
FOREIGN_NAMES = [
    "evil.example",
    "evil.example:8000",
    "EVIL.example.",
    "127.0.0.1.nip.io",
    "localhost.evil.example",
    "hs.example.com.evil.example",
    "xhs.example.com",
    "evilcorp.example",
    "www.hs.example.com",
    "1.2.3.4.5",
    "256.1.1.1",
    "internal.evil.example:80",
]


@pytest.mark.parametrize("host", OWN_NAMES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_names_of_the_server(host: str, method: str) -> None:
    assert run(served(), method, Host=host).status_code == 201


@pytest.mark.parametrize("host", FOREIGN_NAMES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", *WRITES])
def test_foreign_names_are_refused(host: str, method: str) -> None:
    """The page of a rebound name is of the same origin for its browser, so reads are refused as well."""
    found = run(served(), method, Host=host, Origin=f"http://{host}", Sec_Fetch_Site="same-origin")
    assert found.status_code == 421
    if method != "HEAD":
        problem(found, 421, "unknown_host")


@given(labels=st.lists(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True), min_size=1))
def test_any_public_name_is_refused(labels: list[str]) -> None:
    assert ".".join([*labels, "example"]) not in AllowedHosts("0.0.0.0", ALLOWED)


@pytest.mark.parametrize(
    "host", ["a b", "evil.example/", "user@localhost", "localhost:x", "[::1", "ä.example", "a,b"]
)
def test_what_is_not_a_host(host: str) -> None:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served()), base_url=OWN) as client:
            return await client.get("/", headers=[(b"Host", host.encode())])

    problem(asyncio.run(ask()), 400, "malformed_request")


def test_every_name_may_be_allowed() -> None:
    assert run(served(allowed=("*",)), Host="evil.example").status_code == 201


def test_the_name_that_the_server_listens_on() -> None:
    assert "box.example.net" in AllowedHosts("box.example.net", ())
    assert "box.example.net" not in AllowedHosts("0.0.0.0", ())


FOREIGN_PAGES = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site"},
    {"Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"},
    {"Origin": "https://evil.example:8000"},
    {"Origin": "http://localhost:3001", "Sec_Fetch_Site": "same-site"},
    {"Origin": "http://localhost"},
    {"Origin": "http://127.0.0.1:8000"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "file://"},
    {"Origin": "chrome-extension://abcdef"},
    {"Origin": "http://localhost:8000.evil.example"},
    {"Origin": "http://localhost:8000@evil.example"},
    {"Origin": "http://evil.example, http://localhost:8000"},
    {"Origin": "http://localhost:30000"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "Cross-Site"},
    {"Origin": "http://localhost:8000", "Sec_Fetch_Site": "cross-site"},
]
OWN_PAGES = [
    {},
    {"Origin": "http://localhost:8000"},
    {"Origin": "https://localhost:8000"},
    {"Origin": "http://LOCALHOST:8000", "Sec_Fetch_Site": "same-origin"},
    {"Sec_Fetch_Site": "none"},
    {"Sec_Fetch_Site": "same-origin"},
    {"Origin": "https://hs.example.com", "Host": "hs.example.com"},
    {"Origin": "http://hs.example.com:80", "Host": "hs.example.com:80"},
    {"Origin": "https://hs.example.com", "Host": "hs.example.com:443"},
    {"Origin": "http://[::1]:8000", "Host": "[::1]:8000"},
    {"Origin": "http://localhost:3000", "Sec_Fetch_Site": "same-site"},
    {"Origin": "https://app.example.com", "Sec_Fetch_Site": "cross-site"},
    {"Origin": "https://app.example.com:443"},
]


@pytest.mark.parametrize("headers", FOREIGN_PAGES)
@pytest.mark.parametrize("method", [*WRITES, "TRACE"])
def test_foreign_pages_change_nothing(headers: dict[str, str], method: str) -> None:
    found = run(served(), method, **headers)
    problem(found, 403, "foreign_origin")
    assert "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize("headers", FOREIGN_PAGES)
@pytest.mark.parametrize("method", READS)
def test_foreign_pages_may_send_reads_whose_responses_they_cannot_see(
    headers: dict[str, str], method: str
) -> None:
    found = run(served(), method, **headers)
    assert found.status_code == 201
    assert "access-control-allow-origin" not in found.headers


@pytest.mark.parametrize("headers", OWN_PAGES)
@pytest.mark.parametrize("method", [*READS, *WRITES])
def test_own_and_named_pages_and_clients_that_are_no_browsers(headers: dict[str, str], method: str) -> None:
    assert run(served(), method, **headers).status_code == 201


def test_of_two_origins_neither_may_be_foreign() -> None:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(served()), base_url=OWN) as client:
            return await client.post("/", headers=[("Origin", OWN), ("Origin", "http://evil.example")])

    problem(asyncio.run(ask()), 403, "foreign_origin")


@pytest.mark.parametrize("origin", CORS)
@pytest.mark.parametrize("method", [*WRITES, "GET"])
def test_a_preflight_of_a_named_origin(origin: str, method: str) -> None:
    wanted = "content-type, idempotency-key, if-match, x-request-id"
    found = run(
        served(),
        "OPTIONS",
        Origin=origin,
        Access_Control_Request_Method=method,
        Access_Control_Request_Headers=wanted,
        Access_Control_Request_Private_Network="true",
    )
    assert found.status_code == 200
    assert found.headers["access-control-allow-origin"] == origin
    assert method in found.headers["access-control-allow-methods"].split(", ")
    assert found.headers["access-control-allow-headers"] == wanted
    assert found.headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-credentials" not in found.headers
    assert {"x-request-id", "server-timing"} <= set(found.headers)


@pytest.mark.parametrize("cors", [(), CORS])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3001"])
def test_a_preflight_of_another_origin(cors: tuple[str, ...], origin: str) -> None:
    found = run(served(cors=cors), "OPTIONS", Origin=origin, Access_Control_Request_Method="POST")
    problem(found, 403, "foreign_origin")
    assert not any(name.startswith("access-control-allow") for name in found.headers)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_named_origin_may_read(method: str) -> None:
    found = run(served(), method, Origin=CORS[0])
    assert found.headers["access-control-allow-origin"] == CORS[0]
    assert "Origin" in found.headers["vary"]
    exposed = set(found.headers["access-control-expose-headers"].split(", "))
    assert {
        "ETag",
        "Location",
        "X-Request-Id",
        "Retry-After",
        "Server-Timing",
        "Idempotency-Replayed",
    } <= exposed


def test_the_server_refuses_what_a_page_sends(server: Server, nothing_stored: None) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n' * 2000
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Origin": "http://evil.example"}
    for path in ("/v1/tasks", "/v1/datasets", "/v1/predict", "/v1/streams/digits/tasks"):
        problem(server.client.post(path, content=form, headers=headers), 403, "foreign_origin")
    problem(server.client.get("/v1/tasks", headers={"Host": "evil.example"}), 421, "unknown_host")


def test_a_request_without_host(server: Server) -> None:
    def status(head: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head)
            return connection.recv(12)[-3:]

    assert status(b"GET /livez HTTP/1.1\r\n\r\n") == b"400"
    assert status(b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n") == b"400"
    assert status(b"GET /livez HTTP/1.0\r\n\r\n") == b"200"
