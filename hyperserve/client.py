"""The synchronous client.

with Client() as client:
    task = client.tasks.create({"cat": ["cat1.png", "cat2.png"], "dog": ["dog1.png"]})
    print(task.predict(["what.png"]).predictions[0].label)
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx

from hyperserve import inputs, types
from hyperserve.errors import ConnectionFailedError, ServiceUnavailableError
from hyperserve.tasks import Tasks, query_body, support_body
from hyperserve.transport import RetryPolicy, Transport

DEFAULT_URL = "http://127.0.0.1:8000"
_CONNECT_TIMEOUT = 5.0
# Shorter than the 5 s after which uvicorn closes an idle connection: no request may run into that.
_POOL = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4.0)


class Learners:
    """`client.learners`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, name: str) -> types.LearnerCard:
        """One learner with its model card. Raises NotFoundError."""
        return self._transport.fetch(types.LearnerCard, "GET", f"/v1/learners/{quote(name, safe='')}")

    def list(self) -> builtins.list[types.Learner]:
        """The learners the server has, their traits and measured metrics."""
        return self._transport.fetch(types.Page[types.Learner], "GET", "/v1/learners").items


class Client:
    """A connection to a hyperserve server; use as a context manager, or call `close`. Safe between threads.

    base_url: HYPERSERVE_URL or http://127.0.0.1:8000 when left out; api_key: sent as a bearer token;
    timeout: seconds of silence from the server that count as a failure; max_retries: further attempts after
    429, 503 and failed connections, which obey Retry-After.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
    ) -> None:
        url = base_url or os.environ.get("HYPERSERVE_URL") or DEFAULT_URL
        if max_retries < 0:
            raise ValueError(f"max_retries {max_retries} must be 0 or more")
        headers = {"User-Agent": f"hyperserve-python/{_version()}", "Accept": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        timeouts = httpx.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT))
        self._http = httpx.Client(base_url=_address(url), headers=headers, timeout=timeouts, limits=_POOL)
        self._transport = Transport(self._http, RetryPolicy(max_retries))
        self.tasks = Tasks(self._transport)
        self.learners = Learners(self._transport)

    def predict(
        self,
        learner: str | None,
        support: inputs.Support,
        queries: Iterable[inputs.Input],
        *,
        coverage: float | None = None,
        samples: int | None = None,
        top: int | None = None,
    ) -> types.Predictions:
        """Adapt and answer in one request; the server keeps nothing. Arguments as for tasks.

        `learner` None takes the server's default for the kind of input.
        """
        body = support_body(support, learner) | query_body(
            queries, coverage=coverage, samples=samples, top=top
        )
        return self._transport.fetch(types.Predictions, "POST", "/v1/predict", json=body)

    def limits(self) -> types.Limits:
        """What the server accepts at most."""
        return self._transport.fetch(types.Limits, "GET", "/v1/limits")

    def ready(self) -> bool:
        """Whether the server answers and its learners are warm; one attempt, for polling."""
        try:
            Transport(self._http, RetryPolicy(0)).send("GET", "/readyz")
        except (ServiceUnavailableError, ConnectionFailedError):
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url {url!r}: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"base_url {url!r} must be like http://host:port")
    return address


def _version() -> str:
    try:
        return version("hyperserve")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
