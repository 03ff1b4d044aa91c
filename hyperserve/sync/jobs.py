# Made from hyperserve/aio/jobs.py by `python -m tools.make_sync`: change that file, not this one.
"""Work that the server does on its own time: looking it up, following it, stopping it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress

from hyperserve import types
from hyperserve.errors import (
    ConnectionFailedError,
    HyperserveError,
    JobFailedError,
    ServiceUnavailableError,
    TimeoutFailedError,
    WaitTimeoutError,
)
from hyperserve.requests import Request, identity, path
from hyperserve.retries import Deadline, WaitPolicy, decode
from hyperserve.sync import io
from hyperserve.sync.pages import Pages
from hyperserve.sync.transport import Transport


class Jobs:
    """`client.jobs`."""

    def __init__(self, transport: Transport, policy: WaitPolicy | None = None) -> None:
        self._transport = transport
        self._policy = policy or WaitPolicy()

    def get(self, job: types.Job | str) -> types.Job:
        """A job as it is now. Raises NotFoundError."""
        return self._transport.fetch(types.Job, Request("GET", path("jobs", identity(job))))

    def list(
        self, *, state: str | None = None, kind: str | None = None, limit: int | None = None
    ) -> Pages[types.Job]:
        """The jobs of the server, newest first; of one state or kind only, when given."""
        params = {"state": state, "kind": kind}
        return Pages(self._transport, types.Page[types.Job], "/v1/jobs", limit, params)

    def cancel(self, job: types.Job | str) -> types.Job:
        """Ask a job to stop, which takes seconds. Raises NotFoundError, ConflictError when it has finished."""
        request = Request("POST", path("jobs", identity(job), "cancel"), repeatable=False)
        return self._transport.fetch(types.Job, request)

    def events(self, job: types.Job | str) -> Iterator[types.Job]:
        """The job at every change, until it has finished; a broken stream is taken up where it broke.

        Raises NotFoundError, and ConnectionFailedError when the stream cannot be taken up again.
        """
        with closing(self._stream(identity(job))) as states:
            for state in states:
                if state is not None:
                    yield state

    def wait(
        self,
        job: types.Job | str,
        *,
        on_progress: Callable[[types.Job], object] | None = None,
        timeout: float | None = None,
    ) -> types.Job:
        """The job, once it has succeeded. A server that restarts meanwhile is waited for.

        on_progress: called with the job at first and at every change; timeout: seconds.
        Raises JobFailedError for one that failed, died or was cancelled, WaitTimeoutError, HyperserveError.
        """
        deadline = Deadline(timeout)
        last: types.Job | None = None
        with closing(self._follow(identity(job), deadline)) as states:
            for state in states:
                if state is None or state == last:
                    continue
                last = state
                if on_progress is not None:
                    io.tell(on_progress, state)
                if state.state == "succeeded":
                    return state
                if state.finished:
                    raise JobFailedError(state)
        raise WaitTimeoutError(f"job {identity(job)} is not finished after {timeout:g} s; it goes on")

    def _follow(self, job_id: str, deadline: Deadline) -> Generator[types.Job | None, None, None]:
        """The job by its stream, and by asking when there is none, it broke for good or time runs out."""
        yield self.get(job_id)
        if deadline.left > self._policy.near:
            with suppress(HyperserveError):  # asking raises it again, if it lasts
                with closing(self._stream(job_id)) as states:
                    for state in states:
                        yield state
                        if deadline.left <= self._policy.near:
                            break
        with closing(self._poll(job_id, deadline)) as states:
            for state in states:
                yield state

    def _poll(self, job_id: str, deadline: Deadline) -> Generator[types.Job | None, None, None]:
        reached = time.monotonic()
        while deadline.left > 0:
            io.sleep(min(self._policy.poll, deadline.left))
            try:
                yield self.get(job_id)
                reached = time.monotonic()
            except (ConnectionFailedError, ServiceUnavailableError):
                if time.monotonic() - reached > self._policy.away:
                    raise

    def _stream(self, job_id: str) -> Generator[types.Job | None, None, None]:
        """Until the closing event. None is a sign of life."""
        where = path("jobs", job_id, "events")
        last_id: str | None = None
        failures = 0
        while True:
            request = Request("GET", where, headers={} if last_id is None else {"Last-Event-ID": last_id})
            failure: HyperserveError = ConnectionFailedError(f"{where}: the stream ended early")
            try:
                with closing(self._transport.events(request)) as events:
                    for event in events:
                        if event is None:
                            yield None
                            continue
                        failures, last_id = 0, event.id or last_id
                        if event.name == "end":
                            return
                        if event.name == "job":
                            yield decode(types.Job, request, event.data)
            except TimeoutFailedError as error:
                failure = ConnectionFailedError(str(error))  # of silence, not of load
            except HyperserveError as error:
                failure = error
            io.sleep(self._transport.policy.after(failure, failures, repeatable=True))
            failures += 1
