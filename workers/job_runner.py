"""One job in a child process under a lease: renews the lease, records progress, ends the child when it must."""

from __future__ import annotations

import asyncio
import enum
import json
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.core.settings import Settings
from app.db.database import Database
from app.db.errors import DatabaseUnavailableError
from app.db.tables import JobRow
from app.jobs import folders, repository
from app.jobs.repository import Renewal
from workers.ipc import LINE_MAX, JobSpec

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Quota of a container under cgroups version 2: microseconds of CPU time in a period, and the period."""
GRACE_SECONDS = 2.0
"""Time between SIGTERM and SIGKILL."""
STOP_SECONDS = 1.0
"""Time between SIGTERM and SIGKILL when the worker itself must stop; also the time to give the job back."""
PROGRESS_SECONDS = 1.0
RETRY_SECONDS = 0.25

log = logging.getLogger("hyperserve")


class EndReason(enum.Enum):
    """The reason why a job leaves its worker."""

    EXITED = "its process ended"
    PUBLISHED = "its end is published"
    CANCELLED = "cancelled"
    LOST = "the lease is lost"
    STOPPED = "the worker stops"


@dataclass
class JobRunner:
    """Runs a job that has just been claimed."""

    database: Database
    settings: Settings
    job: JobRow
    function: str
    """`module:function`."""
    lease_end: float
    """End of the lease by this process's monotonic clock, which is never later than by the database's."""
    _progress: dict[str, Any] | None = None
    _progressed: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Future[EndReason] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def stop(self, reason: EndReason) -> None:
        """End the child soon; `run` returns when it is gone."""
        if not self._stop.done():
            self._stop.set_result(reason)

    async def run(self) -> EndReason:
        try:
            child = await self._spawn()
        except OSError as error:
            log.error("job %s could not be started: %s", self.job.id, error)
            await self._give_back(EndReason.EXITED)
            return EndReason.EXITED
        exited = asyncio.ensure_future(child.wait())
        lease = asyncio.ensure_future(self._hold_lease())
        progress = asyncio.ensure_future(self._read_progress(child))
        ends: list[asyncio.Future[Any]] = [exited, self._stop, lease]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            reason = self._reason(exited, lease)
            if reason is EndReason.PUBLISHED:
                await asyncio.wait(ends[:2], timeout=GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                log.info("job %s: %s", self.job.id, reason.value)
        finally:
            await _end(child, STOP_SECONDS if self._stop.done() else GRACE_SECONDS)
            for task in (lease, progress):
                task.cancel()
            await asyncio.gather(lease, progress, return_exceptions=True)
        await self._give_back(reason)
        return reason

    def _reason(self, exited: asyncio.Future[Any], lease: asyncio.Future[Any]) -> EndReason:
        if exited.done():
            status = exited.result()
            if status:
                log.warning("job %s: its process ended with status %d", self.job.id, status)
            return EndReason.EXITED
        reason: EndReason = lease.result() if lease.done() else self._stop.result()
        return reason

    async def _spawn(self) -> Process:
        spec = await asyncio.to_thread(self._spec)
        # Spawned, not forked: CUDA and threads do not survive a fork. Its process group ends with it.
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers.child",
            # For people who read a list of processes; the job itself goes through the pipe.
            self.job.id,
            str(self.job.attempt),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=thread_limits(self.settings.worker_jobs) | os.environ,
            limit=2 * LINE_MAX,
        )
        assert child.stdin is not None
        child.stdin.write(spec.line())
        return child

    def _spec(self) -> JobSpec:
        job = self.job
        folder, previous = folders.prepare(self.settings.data_dir, job.id, job.attempt)
        return JobSpec(
            id=job.id,
            tenant=job.tenant,
            kind=job.kind,
            function=self.function,
            attempt=job.attempt,
            token=job.lease_token,
            payload=job.payload,
            folder=str(folder),
            previous=None if previous is None else str(previous),
        )

    async def _read_progress(self, child: Process) -> None:
        assert child.stdout is not None
        while line := await child.stdout.readline():
            self._progress = json.loads(line)
            self._progressed.set()

    async def _hold_lease(self) -> EndReason:
        """Renew the lease until it is lost or the job is cancelled.

        While the database is away the child goes on for as long as no other worker can have taken its job.
        """
        renewed = time.monotonic()
        while True:
            await self._pause(renewed)
            renewed = time.monotonic()
            answer = await self._renewed()
            if isinstance(answer, EndReason):
                return answer
            if answer.cancelled:
                return EndReason.CANCELLED

    async def _renewed(self) -> Renewal | EndReason:
        """Try to renew the lease until it lapses. Return a reason if there is no lease any more."""
        warned = False
        while (left := self.lease_end - time.monotonic()) > 0:
            began, progress = time.monotonic(), self._progress
            attempt = asyncio.ensure_future(self._renew(progress))
            try:
                # Watched rather than timed out: cancelling a query can itself hang.
                await asyncio.wait({attempt}, timeout=left)
                if not attempt.done():
                    return EndReason.LOST
                answer = attempt.result()
            except DatabaseUnavailableError as error:
                if not warned:
                    log.warning("job %s: its lease is not renewed yet: %s", self.job.id, error)
                warned = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            finally:
                attempt.cancel()
            if self._progress is progress:
                self._progress = None
            self.lease_end = began + self.settings.lease_seconds
            return answer
        return EndReason.LOST

    async def _pause(self, renewed: float) -> None:
        """Wait until a renewal is due: a quarter of the lease, or less if there is progress to record."""
        quarter = self.settings.lease_seconds / 4
        with suppress(TimeoutError):
            await asyncio.wait_for(self._progressed.wait(), quarter)
            await asyncio.sleep(renewed + min(PROGRESS_SECONDS, quarter) - time.monotonic())
        self._progressed.clear()

    async def _renew(self, progress: dict[str, Any] | None) -> Renewal | EndReason:
        job, token, lease = self.job.id, self.job.lease_token, self.settings.lease_seconds
        async with self.database.write() as session:
            renewal = await repository.renew(session, job, token, round(lease * 1e3), progress)
            if renewal is not None:
                return renewal
            # The child publishes the end of its job itself, and exits a moment later.
            published = await repository.published(session, job, token)
            return EndReason.PUBLISHED if published else EndReason.LOST

    async def _give_back(self, reason: EndReason) -> None:
        """Release the lease of a job whose end the child has not published. If there is no time, it lapses.

        A job whose cancellation was requested becomes cancelled, any other is queued again or dead.
        """
        if reason in (EndReason.LOST, EndReason.PUBLISHED):
            return
        seconds = STOP_SECONDS if self._stop.done() else self.lease_end - time.monotonic()
        work = asyncio.ensure_future(self._release(blame=reason is not EndReason.STOPPED))
        await asyncio.wait({work}, timeout=max(0.0, seconds))
        if work.done():
            work.result()
        else:
            work.cancel()
            log.warning("job %s: the database does not answer; its lease lapses", self.job.id)

    async def _release(self, *, blame: bool) -> None:
        while True:
            try:
                async with self.database.write() as session:
                    await repository.release(session, self.job.id, self.job.lease_token, blame=blame)
                return
            except DatabaseUnavailableError:
                await asyncio.sleep(RETRY_SECONDS)


def thread_limits(jobs: int) -> dict[str, str]:
    """Return the environment of each of `jobs` children; half of the processors are left for everything else.

    Threads that wait for each other sleep: if they span, they would keep the others from running.
    """
    return {"OMP_NUM_THREADS": str(max(1, processors() // (2 * jobs))), "OMP_WAIT_POLICY": "PASSIVE"}


def processors(quota: Path = _CPU_QUOTA) -> int:
    """Return the number of processors that this process may use, which a container or taskset may limit."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
        return max(1, min(available, int(allowed) // int(period)))
    except (OSError, ValueError):
        # No such file, or "max".
        return available


async def _end(child: Process, grace: float) -> None:
    """Terminate the child, then kill it and whatever it left in its process group."""
    if child.returncode is None:
        _signal(child, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), grace)
    _signal(child, signal.SIGKILL)
    await child.wait()


def _signal(child: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
