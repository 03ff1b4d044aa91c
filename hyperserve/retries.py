"""What to do about a failure: the error it is, whether another attempt is worth it, and when."""

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
    """How often to try again, and how long to wait. Times are seconds."""

    max_retries: int = 2
    first_wait: float = 0.5
    longest_wait: float = 8.0
    longest_retry_after: float = 60.0
    """A server that asks for more patience than this gets its answer raised instead."""
    in_flight_retries: int = 30
    """While an earlier attempt is still being answered; a second each, longer than a killed server's claim."""

    def wait(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds before attempt + 1: exponential; jitter keeps clients from coming back as one."""
        if retry_after is not None:
            return retry_after * random.uniform(1.0, 1.1)
        return float(min(self.longest_wait, self.first_wait * 2**attempt) * random.uniform(0.5, 1.0))

    def after(self, error: HyperserveError, attempt: int, repeatable: bool) -> float:
        """Seconds to wait after a failed attempt, numbered from 0. Raises the error where none should follow."""
        most = self.in_flight_retries if _in_flight(error) else self.max_retries
        if attempt >= most or not worth_retrying(error, repeatable):
            raise error
        retry_after = error.retry_after if isinstance(error, StatusError) else None
        if retry_after is not None and retry_after > self.longest_retry_after:
            raise error
        return self.wait(attempt, retry_after)


@dataclass(frozen=True)
class WaitPolicy:
    """How a job is waited for. Times are seconds."""

    poll: float = 1.0
    away: float = 60.0
    """For how long a server that knew the job may be away, such as for a restart."""
    near: float = 20.0
    """To a deadline, from which on the job is asked for: a stream may say nothing for 15."""


class Deadline:
    """A moment `seconds` from now; never, when None."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return float("inf") if self._end is None else max(0.0, self._end - time.monotonic())


def worth_retrying(error: HyperserveError, repeatable: bool) -> bool:
    """429, 503 and connections that never opened: nothing was done. One that broke later: if `repeatable`.

    A slow answer is not worth it, as that adds to the load.
    """
    if isinstance(error, StatusError):
        return error.status in (429, 503) or _in_flight(error)
    if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return True
    return (
        repeatable and isinstance(error, ConnectionFailedError) and not isinstance(error, TimeoutFailedError)
    )


def _in_flight(error: HyperserveError) -> bool:
    """Whether our own earlier attempt, whose connection broke, is still at work."""
    return isinstance(error, StatusError) and error.code == "idempotency_in_flight"


@contextmanager
def translated() -> Iterator[None]:
    """Failures of httpx as this client's errors."""
    try:
        yield
    except httpx.TimeoutException as error:
        request = error.request
        raise TimeoutFailedError(f"{request.method} {request.url}: no answer in time") from error
    except httpx.RequestError as error:
        raise ConnectionFailedError(f"{error.request.method} {error.request.url}: {error}") from error


def refused(response: httpx.Response) -> StatusError:
    """The error for a response, read already, of another status than 2xx."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = None
    return status_error(response.status_code, problem, parse_retry_after(response.headers.get("retry-after")))


def decode(answer: type[Model], request: Request, content: bytes | str) -> Model:
    """An answer as its model. Raises MalformedAnswerError."""
    try:
        return answer.model_validate_json(content)
    except ValidationError as error:
        raise MalformedAnswerError(
            f"{request.method} {request.path}: not a {answer.__name__}: is this a hyperserve server? {error}"
        ) from error


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
