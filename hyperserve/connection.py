"""Connection settings: server address, headers and timeouts."""

from __future__ import annotations

import os

import httpx

from hyperserve.errors import InvalidArgumentError
from hyperserve.version import __version__

DEFAULT_URL = "http://127.0.0.1:8000"
# Shorter than the 5 s after which uvicorn closes an idle connection: no request may run into that.
POOL = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)
_CONNECT_TIMEOUT = 5.0
# The server reads a large dataset to its end before it answers.
_UPLOAD_READ_TIMEOUT = 600.0
# Three heartbeats of an event stream.
_STREAM_READ_TIMEOUT = 45.0


def server_url(base_url: str | None) -> httpx.URL:
    """Return the URL of the server: `base_url`, else HYPERSERVE_URL, else this machine.

    Raises InvalidArgumentError.
    """
    url = base_url or os.environ.get("HYPERSERVE_URL") or DEFAULT_URL
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidArgumentError(f"base_url {url!r}: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidArgumentError(f"base_url {url!r} must look like http://host:port")
    return parsed


def headers(api_key: str | None) -> dict[str, str]:
    """Return the headers of every request."""
    common = {"User-Agent": f"hyperserve-python/{__version__}", "Accept": "application/json"}
    return common if api_key is None else common | {"Authorization": f"Bearer {api_key}"}


def default_timeout(seconds: float) -> httpx.Timeout:
    """Return the timeout of ordinary requests; opening a connection may take 5 s at most."""
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_TIMEOUT))


def upload_timeout(default: httpx.Timeout) -> httpx.Timeout:
    """Return `default` with a read timeout that is long enough for a large file."""
    return _with_longer_read(default, _UPLOAD_READ_TIMEOUT)


def stream_timeout(default: httpx.Timeout) -> httpx.Timeout:
    """Return `default` with a read timeout that outlasts the heartbeats of an event stream."""
    return _with_longer_read(default, _STREAM_READ_TIMEOUT)


def _with_longer_read(default: httpx.Timeout, seconds: float) -> httpx.Timeout:
    read = None if default.read is None else max(default.read, seconds)
    return httpx.Timeout(connect=default.connect, read=read, write=default.write, pool=default.pool)
