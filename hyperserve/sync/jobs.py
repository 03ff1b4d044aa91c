# Generated from hyperserve/aio/jobs.py by `python -m tools.make_sync`: change that file, not this one.
"""Background jobs of the server: get, list, cancel, follow, wait."""

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
from hyperserve.requests import Request, id_of, path
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
        """Return a job as it is now. Raises NotFoundError."""
        return self._transport.fetch(types.Job, Request("GET", path("jobs", id_of(job))))

    def list(
        self, *, state: str | None = None, kind: str | None = None, limit: int | None = None
    ) -> Pages[types.Job]:
        """Return the jobs of the server, newest first, filtered by `state` and `kind` if given."""
        params = {"state": state, "kind": kind}
        return Pages(self._transport, types.Page[types.Job], "/v1/jobs", limit, params)

    def cancel(self, job: types.Job | str) -> types.Job:
        """Request the cancellation of a job, which takes seconds.

        Raises NotFoundError, and ConflictError if the job has finished.
        """
        request = Request("POST", path("jobs", id_of(job), "cancel"), repeatable=False)
        return self._transport.fetch(types.Job, request)

    def events(self, job: types.Job | str) -> Iterator[types.Job]:
        """Yield the job at every change until it has finished; a broken stream is resumed where it broke.

        Raises NotFoundError, and ConnectionFailedError if the stream cannot be resumed.
        """
        with closing(self._stream(id_of(job))) as states:
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
        """Wait until a job has succeeded and return it; survives a restart of the server.

        on_progress: called with the job at the start and at every change; timeout: in seconds.
        Raises JobFailedError if the job failed, died or was cancelled, WaitTimeoutError, HyperserveError.
        """
        deadline = Deadline(timeout)
        last: types.Job | None = None
        with closing(self._follow(id_of(job), deadline)) as states:
            for state in states:
                if state is None or state == last:
                    continue
                last = state
                if on_progress is not None:
                    io.notify(on_progress, state)
                if state.state == "succeeded":
                    return state
                if state.finished:
                    raise JobFailedError(state)
        raise WaitTimeoutError(f"job {id_of(job)} has not finished after {timeout:g} s; it keeps running")

    def _follow(self, job_id: str, deadline: Deadline) -> Generator[types.Job | None, None, None]:
        """Yield the job from its event stream, and by polling if that fails or the deadline is near."""
        yield self.get(job_id)
        if deadline.remaining > self._policy.poll_before_deadline:
            with suppress(HyperserveError):  # polling raises it again if it lasts
                with closing(self._stream(job_id)) as states:
                    for state in states:
                        yield state
                        if deadline.remaining <= self._policy.poll_before_deadline:
                            break
        with closing(self._poll(job_id, deadline)) as states:
            for state in states:
                yield state

    def _poll(self, job_id: str, deadline: Deadline) -> Generator[types.Job | None, None, None]:
        last_contact = time.monotonic()
        while deadline.remaining > 0:
            io.sleep(min(self._policy.poll_interval, deadline.remaining))
            try:
                yield self.get(job_id)
                last_contact = time.monotonic()
            except (ConnectionFailedError, ServiceUnavailableError):
                if time.monotonic() - last_contact > self._policy.max_outage:
                    raise

    def _stream(self, job_id: str) -> Generator[types.Job | None, None, None]:
        """Yield the job at every event until the closing one, and None at every heartbeat."""
        where = path("jobs", job_id, "events")
        last_id: str | None = None
        failures = 0
        while True:
            request = Request("GET", where, headers={} if last_id is None else {"Last-Event-ID": last_id})
            failure: HyperserveError = ConnectionFailedError(f"{where}: the event stream ended early")
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
                failure = ConnectionFailedError(str(error))  # a silent stream may be resumed
            except HyperserveError as error:
                failure = error
            io.sleep(self._transport.policy.wait_after(failure, failures, repeatable=True))
            failures += 1
