"""Exceptions of the client: everything it raises derives from HyperserveError."""

from __future__ import annotations

from http import HTTPStatus

from hyperserve.types import Job, Problem


class HyperserveError(Exception):
    """Base of every error that the client raises."""


class InvalidArgumentError(HyperserveError, ValueError):
    """An argument has a value that cannot be sent; raised before anything is sent."""


class ArgumentTypeError(InvalidArgumentError, TypeError):
    """An argument has a type that cannot be sent; raised before anything is sent."""


class ConnectionFailedError(HyperserveError):
    """The server could not be reached, or the connection broke before an answer came."""


class TimeoutFailedError(ConnectionFailedError):
    """The server did not answer within the client's `timeout`; it may still have done the work."""


class MalformedAnswerError(HyperserveError):
    """A 2xx response does not match the API; it often comes from a proxy or another service."""


class JobFailedError(HyperserveError):
    """A job did not succeed: its `job.state` is failed, cancelled or dead."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return f"job {self.job.id} ({self.job.kind}) {self.job.state}: {self.detail} [{self.code}]"

    @property
    def code(self) -> str:
        """Return the code of the failure, or the job's state if the server gave no code."""
        return str((self.job.error or {}).get("code") or self.job.state)

    @property
    def detail(self) -> str:
        """Return the server's description of the failure."""
        return str((self.job.error or {}).get("detail") or "the server gave no further details")


class WaitTimeoutError(HyperserveError, TimeoutError):
    """A job did not finish within the `timeout` of `jobs.wait`; it keeps running."""


class StatusError(HyperserveError):
    """The server answered with a status other than 2xx.

    `problem` is its problem document (RFC 9457), or None if the response held none.
    `retry_after` is in seconds.
    """

    def __init__(self, status: int, problem: Problem | None = None, retry_after: float | None = None) -> None:
        super().__init__(_message(status, problem))
        self.status = status
        self.problem = problem
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickling: the default would rebuild the error from its message."""
        return type(self), (self.status, self.problem, self.retry_after)

    @property
    def code(self) -> str | None:
        """Return the problem's code, such as `task_not_found`."""
        return self.problem.code if self.problem else None

    @property
    def request_id(self) -> str | None:
        """Return the id under which the server logged the request."""
        return self.problem.request_id if self.problem else None


class BadRequestError(StatusError):
    """400, or any other 4xx without a class of its own: the server cannot read the request."""


class NotFoundError(StatusError):
    """404: the resource does not exist."""


class GoneError(NotFoundError):
    """410: the resource existed and is gone, such as a stored prediction that has expired."""


class ConflictError(StatusError):
    """409: the state of the resource forbids it, such as deleting a dataset that is in use."""


class PreconditionFailedError(StatusError):
    """412: the task has changed since it was read; call `task.refresh()` and try again."""


class TooLargeError(StatusError):
    """413: the request exceeds a limit; `client.limits()` returns the limits."""


class UnprocessableError(StatusError):
    """422: the request is well-formed but invalid; `problem.errors` points at each fault."""


class RateLimitError(StatusError):
    """429: too many requests; retry after `retry_after` seconds."""


class ServerError(StatusError):
    """5xx: the server failed."""


class ServiceUnavailableError(ServerError):
    """503: the server is starting, draining or overloaded."""


_BY_STATUS: dict[int, type[StatusError]] = {
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    412: PreconditionFailedError,
    413: TooLargeError,
    422: UnprocessableError,
    429: RateLimitError,
    503: ServiceUnavailableError,
}


def status_error(status: int, problem: Problem | None, retry_after: float | None) -> StatusError:
    """Return the error for a response with this status."""
    family = {4: BadRequestError, 5: ServerError}.get(status // 100, StatusError)
    return _BY_STATUS.get(status, family)(status, problem, retry_after)


def _message(status: int, problem: Problem | None) -> str:
    if problem is None:
        known = status in HTTPStatus._value2member_map_
        name = f" {HTTPStatus(status).phrase}" if known else ""
        return f"HTTP {status}{name} without a problem document: is this a hyperserve server?"
    lines = [f"{problem.title}: {problem.detail} [{problem.code}, request {problem.request_id}]"]
    lines += [f"  {item.pointer or '(body)'}: {item.detail}" for item in problem.errors]
    return "\n".join(lines)
