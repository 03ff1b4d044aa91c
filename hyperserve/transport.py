"""Requests, retries and errors: everything between a method of the client and the socket."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from hyperserve.errors import (
    ConnectionFailedError,
    HyperserveError,
    MalformedAnswerError,
    StatusError,
    TimeoutFailedError,
    status_error,
)
from hyperserve.types import Problem

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try again, and how long to wait. Times are seconds."""

    max_retries: int = 2
    first_wait: float = 0.5
    longest_wait: float = 8.0
    longest_retry_after: float = 60.0
    """A server that asks for more patience than this gets its answer raised instead."""

    def wait(self, attempt: int, retry_after: float | None) -> float:
        """Seconds before attempt + 1: exponential; jitter keeps clients from coming back as one."""
        if retry_after is not None:
            return retry_after * random.uniform(1.0, 1.1)
        return float(min(self.longest_wait, self.first_wait * 2**attempt) * random.uniform(0.5, 1.0))


@dataclass(frozen=True)
class Transport:
    """One connection pool and one retry policy."""

    http: httpx.Client
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    def fetch(
        self,
        answer: type[Model],
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        repeatable: bool = True,
    ) -> Model:
        """The answer to a request, as `answer`. Raises HyperserveError."""
        response = self.send(method, path, json=json, params=params, repeatable=repeatable)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as error:
            raise MalformedAnswerError(
                f"{method} {path}: not a {answer.__name__}: is this a hyperserve server? {error}"
            ) from error

    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        repeatable: bool = True,
    ) -> httpx.Response:
        """A response of status 2xx, after retries. Raises HyperserveError.

        429, 503 and connections that never opened are always worth another try: nothing was done. One that
        broke later is tried again only when `repeatable`; a slow answer is not, as that adds to the load.
        """
        attempt = 0
        while True:
            try:
                return self._once(method, path, json, params)
            except HyperserveError as error:
                if attempt == self.policy.max_retries or not _worth_retrying(error, repeatable):
                    raise
                retry_after = error.retry_after if isinstance(error, StatusError) else None
                if retry_after is not None and retry_after > self.policy.longest_retry_after:
                    raise
                time.sleep(self.policy.wait(attempt, retry_after))
            attempt += 1

    def _once(self, method: str, path: str, json: Any, params: Mapping[str, Any] | None) -> httpx.Response:
        asked = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            response = self.http.request(method, path, json=json, params=asked)
        except httpx.TimeoutException as error:
            raise TimeoutFailedError(f"{method} {error.request.url}: no answer in time") from error
        except httpx.RequestError as error:
            raise ConnectionFailedError(f"{method} {error.request.url}: {error}") from error
        if response.is_success:
            return response
        raise status_error(
            response.status_code, _problem(response), parse_retry_after(response.headers.get("retry-after"))
        )


def parse_retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110: seconds or a date); None when it says neither."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    now = datetime.now(UTC)
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())


def _worth_retrying(error: HyperserveError, repeatable: bool) -> bool:
    if isinstance(error, StatusError):
        return error.status in (429, 503)
    if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return True
    return repeatable and not isinstance(error, TimeoutFailedError)


def _problem(response: httpx.Response) -> Problem | None:
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        return None
