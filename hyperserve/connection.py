"""What a connection to a server needs to be told."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
# Shorter than the 5 s after which uvicorn closes an idle connection: no request may run into that.
POOL = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)
_CONNECT_TIMEOUT = 5.0
_UPLOAD_SILENCE = 600.0
"""A large dataset is read through before it is answered."""
_STREAM_SILENCE = 45.0
"""Three heartbeats of an event stream."""


def address(base_url: str | None) -> httpx.URL:
    """Where the server is; HYPERSERVE_URL or this machine when not told. Raises ValueError."""
    url = base_url or os.environ.get("HYPERSERVE_URL") or DEFAULT_URL
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url {url!r}: {error}") from error
    if found.scheme not in ("http", "https") or not found.host:
        raise ValueError(f"base_url {url!r} must be like http://host:port")
    return found


def headers(api_key: str | None) -> dict[str, str]:
    """Of every request."""
    sent = {"User-Agent": f"hyperserve-python/{_version()}", "Accept": "application/json"}
    return sent if api_key is None else sent | {"Authorization": f"Bearer {api_key}"}


def timeouts(seconds: float) -> httpx.Timeout:
    """Of silence; opening a connection should not take long."""
    return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_TIMEOUT))


def for_upload(usual: httpx.Timeout) -> httpx.Timeout:
    """With the patience that a large file needs."""
    return _patient(usual, _UPLOAD_SILENCE)


def for_stream(usual: httpx.Timeout) -> httpx.Timeout:
    """With the patience that a stream of events needs."""
    return _patient(usual, _STREAM_SILENCE)


def _patient(usual: httpx.Timeout, seconds: float) -> httpx.Timeout:
    read = None if usual.read is None else max(usual.read, seconds)
    return httpx.Timeout(connect=usual.connect, read=read, write=usual.write, pool=usual.pool)


def _version() -> str:
    try:
        return version("hyperserve")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
