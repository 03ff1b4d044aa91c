"""What can go wrong between a client and a server: one class per family of answers."""

from __future__ import annotations

from http import HTTPStatus

from hyperserve.types import Job, Problem


class HyperserveError(Exception):
    """Base of every error the client raises about the server or the way to it."""


class ConnectionFailedError(HyperserveError):
    """The server could not be reached, or the connection broke before an answer came."""


class TimeoutFailedError(ConnectionFailedError):
    """No answer within the client's `timeout`. The server may still have done the work."""


class MalformedAnswerError(HyperserveError):
    """An answer of status 2xx that is not what the wire promises: often a proxy or another service."""


class JobFailedError(HyperserveError):
    """A job that was waited for did not succeed: `job.state` is failed, cancelled or dead."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return f"job {self.job.id} ({self.job.kind}) {self.job.state}: {self.detail} [{self.code}]"

    @property
    def code(self) -> str:
        """Of the failure; the state, where the server says no more."""
        return str((self.job.error or {}).get("code") or self.job.state)

    @property
    def detail(self) -> str:
        return str((self.job.error or {}).get("detail") or "the server says no more")


class WaitTimeoutError(HyperserveError, TimeoutError):
    """A job was not finished within the `timeout` of `jobs.wait`. It goes on."""


class StatusError(HyperserveError):
    """The server answered with a status other than 2xx.

    `problem` is its problem document (RFC 9457), None when something else answered in its place.
    `retry_after` is in seconds.
    """

    def __init__(self, status: int, problem: Problem | None = None, retry_after: float | None = None) -> None:
        super().__init__(_message(status, problem))
        self.status = status
        self.problem = problem
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders; the default would rebuild this one from its message."""
        return type(self), (self.status, self.problem, self.retry_after)

    @property
    def code(self) -> str | None:
        """The problem's code, such as `task_not_found`."""
        return self.problem.code if self.problem else None

    @property
    def request_id(self) -> str | None:
        """What to search the server's log for."""
        return self.problem.request_id if self.problem else None


class BadRequestError(StatusError):
    """The request cannot be read: 400, and every 4xx without a class of its own."""


class NotFoundError(StatusError):
    """404: there is no such thing."""


class GoneError(NotFoundError):
    """410: there was, such as a stored prediction that has lapsed."""


class ConflictError(StatusError):
    """409: not in this state, such as deleting a dataset in use or cancelling a job that has finished."""


class PreconditionFailedError(StatusError):
    """412: the task has changed since it was read; `task.refresh()` and look again."""


class TooLargeError(StatusError):
    """413: bytes or pixels over a limit; `client.limits()` tells them."""


class UnprocessableError(StatusError):
    """422: well-formed, but without meaning; `problem.errors` points at what is wrong."""


class RateLimitError(StatusError):
    """429: too many requests; `retry_after` says for how long."""


class ServerError(StatusError):
    """5xx: a fault of the server."""


class ServiceUnavailableError(ServerError):
    """503: starting, draining, or its queue is full."""


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
    """The error for an answer of this status."""
    family = {4: BadRequestError, 5: ServerError}.get(status // 100, StatusError)
    return _BY_STATUS.get(status, family)(status, problem, retry_after)


def _message(status: int, problem: Problem | None) -> str:
    if problem is None:
        known = status in HTTPStatus._value2member_map_
        name = f" {HTTPStatus(status).phrase}" if known else ""
        return f"HTTP {status}{name}, without a problem document: is this a hyperserve server?"
    lines = [f"{problem.title}: {problem.detail} [{problem.code}, request {problem.request_id}]"]
    lines += [f"  {item.pointer or '(body)'}: {item.detail}" for item in problem.errors]
    return "\n".join(lines)
