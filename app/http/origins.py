"""Requests that web pages make: which names the server answers for, and whose pages may change anything.

A browser sends the requests of any page to any address, also to 127.0.0.1, and a page whose name is made to point
there (DNS rebinding) may even read the responses. So a request must be addressed to a name that only this server's
network can give it, and a write must not come from the page of another origin.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from functools import lru_cache

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http.idempotency import REPLAYED
from app.http.problems import ProblemError, fail, response

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CORS_EXPOSED = (
    "Allow",
    "ETag",
    "Location",
    REPLAYED,
    "Retry-After",
    "Server-Timing",
    "X-Request-Id",
)
PRIVATE_SUFFIXES = (".localhost", ".internal", ".home.arpa", ".cluster.local", ".svc")
"""Names that nobody can register in the public DNS: this machine, containers, home networks, Kubernetes."""
DEFAULT_PORTS = {"http": "80", "https": "443"}
CACHED = 1024

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(?::([0-9]*))?")


class AllowedHosts:
    """The names that requests may be addressed to.

    They are IP addresses, names without a dot, names of private networks, the name of the machine, the address that
    the server listens on, and those that the operator allows. A page can be given none of these by its own DNS.
    """

    def __init__(self, listening: str, allowed: Collection[str]) -> None:
        machine = socket.gethostname().lower()
        self._every = "*" in allowed
        self._names = {listening.lower(), machine, f"{machine}.local", *allowed}
        self._suffixes = (*PRIVATE_SUFFIXES, *(name[1:] for name in allowed if name.startswith("*.")))

    def __contains__(self, name: str) -> bool:
        return (
            self._every
            or "." not in name
            or name in self._names
            or name.endswith(self._suffixes)
            or f".{name}" in self._suffixes
            or _is_address(name)
        )


class OriginGuard:
    """Middleware that refuses foreign hosts (421), and writes from pages of foreign origins (403)."""

    def __init__(self, app: ASGIApp, hosts: AllowedHosts, origins: Collection[str]) -> None:
        self.app = app
        self._hosts = hosts
        self._origins = frozenset(origins)
        self._host = lru_cache(CACHED)(self._checked_host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await response(refusal, scope)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        hosts, origins, site = [], [], b""
        preflight = False
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"access-control-request-method":
                preflight = True
        if len(hosts) != 1 and (hosts or scope["http_version"] != "1.0"):
            return fail("malformed_request", "A request has one Host header.")
        own = b""
        if hosts:
            authority = self._host(hosts[0])
            if isinstance(authority, ProblemError):
                return authority
            own = authority
        method = scope["method"]
        if method in SAFE_METHODS and not (preflight and method == "OPTIONS"):
            return None
        if not origins:
            return _foreign() if site.lower() == b"cross-site" else None
        # All of them: which of two counts is undefined.
        return None if all(self._may_write(origin, own, site) for origin in origins) else _foreign()

    def _may_write(self, origin: bytes, own: bytes, site: bytes) -> bool:
        text = origin.decode("latin-1").lower()
        scheme, _, authority = text.partition("://")
        authority = authority.removesuffix(f":{DEFAULT_PORTS.get(scheme, '')}")
        if f"{scheme}://{authority}" in self._origins:
            return True
        # TLS may end at a proxy, so a page of this server may be of either scheme.
        return scheme in DEFAULT_PORTS and authority.encode() == own and site.lower() != b"cross-site"

    def _checked_host(self, value: bytes) -> bytes | ProblemError:
        """Return the name and port of a Host header without a default port, or the problem that it has."""
        found = _HOST.fullmatch(value.decode("latin-1").lower())
        if found is None:
            return fail("malformed_request", "The Host header is not a name or an address with a port.")
        name, port = found[1].rstrip("."), found[2]
        if name.strip("[]") not in self._hosts:
            detail = (
                "This server does not answer for the Host of the request. "
                "If it is a name of this server, add it to HYPERSERVE_ALLOWED_HOSTS."
            )
            return fail("unknown_host", detail)
        return (name if port in (None, "", *DEFAULT_PORTS.values()) else f"{name}:{port}").encode()


def cors_middleware(app: ASGIApp, origins: Collection[str]) -> CORSMiddleware:
    """Return middleware that lets pages of `origins` use the API and read its headers."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=CORS_METHODS,
        allow_headers=["*"],
        allow_private_network=True,
        expose_headers=CORS_EXPOSED,
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _foreign() -> ProblemError:
    detail = (
        "A web page of another origin may not do this. "
        "If you trust its origin, add it to HYPERSERVE_CORS_ORIGINS."
    )
    return fail("foreign_origin", detail)
