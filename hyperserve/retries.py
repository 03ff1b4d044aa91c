"""Translation of failures into errors, and the policy of retries and waits."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

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
from hyperserve.requests import Request
from hyperserve.types import Problem

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class RetryPolicy:
    """Number of retries and the waits between them, in seconds."""

    max_retries: int = 2
    first_wait: float = 0.5
    longest_wait: float = 8.0
    longest_retry_after: float = 60.0
    """A longer Retry-After is raised as an error instead of waited for."""
    in_flight_retries: int = 30
    """Retries while the server still handles an earlier attempt; at 1 s each they outlast a killed server's claim."""

    def wait(self, attempt: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait after an attempt: exponential, with jitter against retries in step."""
        if retry_after is not None:
            return retry_after * random.uniform(1.0, 1.1)
        return float(min(self.longest_wait, self.first_wait * 2**attempt) * random.uniform(0.5, 1.0))

    def wait_after(self, error: HyperserveError, attempt: int, repeatable: bool) -> float:
        """Return the seconds to wait after a failed attempt, numbered from 0; raise the error to give up."""
        max_retries = self.in_flight_retries if _in_flight(error) else self.max_retries
        if attempt >= max_retries or not is_retryable(error, repeatable):
            raise error
        retry_after = error.retry_after if isinstance(error, StatusError) else None
        if retry_after is not None and retry_after > self.longest_retry_after:
            raise error
        return self.wait(attempt, retry_after)


@dataclass(frozen=True)
class WaitPolicy:
    """Timing of waiting for a job, in seconds."""

    poll_interval: float = 1.0
    max_outage: float = 60.0
    """Longest absence of the server, such as a restart, that a wait survives."""
    poll_before_deadline: float = 20.0
    """Poll instead of streaming this close to the deadline: a stream may be silent for 15 s."""


class Deadline:
    """A point in time `seconds` from now, or never if None."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Return the seconds that remain, at least 0."""
        return float("inf") if self._end is None else max(0.0, self._end - time.monotonic())


def is_retryable(error: HyperserveError, repeatable: bool) -> bool:
    """Return True for 429, 503 and connections that never opened, and for broken ones if `repeatable`.

    Timeouts are not retried, as that would add to the load of a slow server.
    """
    if isinstance(error, StatusError):
        return error.status in (429, 503) or _in_flight(error)
    if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return True
    return (
        repeatable and isinstance(error, ConnectionFailedError) and not isinstance(error, TimeoutFailedError)
    )


def _in_flight(error: HyperserveError) -> bool:
    """Return True if the server still handles an earlier attempt whose connection broke."""
    return isinstance(error, StatusError) and error.code == "idempotency_in_flight"


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the errors of httpx as errors of this client."""
    try:
        yield
    except httpx.TimeoutException as error:
        request = error.request
        raise TimeoutFailedError(f"{request.method} {request.url}: no response within the timeout") from error
    except httpx.RequestError as error:
        raise ConnectionFailedError(f"{error.request.method} {error.request.url}: {error}") from error


def error_from_response(response: httpx.Response) -> StatusError:
    """Return the error for a response that has been read and whose status is not 2xx."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = None
    return status_error(response.status_code, problem, parse_retry_after(response.headers.get("retry-after")))


def decode(answer: type[Model], request: Request, content: bytes | str) -> Model:
    """Return the content of a response as a model. Raises MalformedAnswerError."""
    try:
        return answer.model_validate_json(content)
    except ValidationError as error:
        raise MalformedAnswerError(
            f"{request.method} {request.path}: the response is not a {answer.__name__}; "
            f"is this a hyperserve server? {error}"
        ) from error


def parse_retry_after(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110: seconds or a date), or None if it holds neither."""
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
