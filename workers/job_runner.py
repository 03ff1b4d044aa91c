"""One child under one lease: renews it, passes progress on, ends the child when it must."""

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
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.settings import Settings
from app.db.engine import Database
from app.db.failures import NO_ANSWER
from app.db.tables import JobRow
from app.jobs import folders, repository
from app.jobs.repository import Renewal
from workers.ipc import LINE_MAX, Order

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of a container, in cgroups version 2: microseconds of processors in a period, and the period."""


def processors(quota: Path = _QUOTA) -> int:
    """Those that this process may use: fewer than the machine has, in a container or under taskset."""
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
        return max(1, min(have, int(allowed) // int(period)))
    except (OSError, ValueError):
        # No such file, or "max".
        return have


def share(jobs: int) -> dict[str, str]:
    """Environment of each of so many children: half of the processors is for everything else.

    Threads that wait for each other sleep: spinning, they would take the turns of those they wait for.
    """
    return {"OMP_NUM_THREADS": str(max(1, processors() // (2 * jobs))), "OMP_WAIT_POLICY": "PASSIVE"}


GRACE_SECONDS = 2.0
"""Between terminate and kill."""
STOP_SECONDS = 1.0
"""The same, and the time to say so, when the worker itself is told to stop."""
PROGRESS_SECONDS = 1.0
RETRY_SECONDS = 0.25

T = TypeVar("T")
log = logging.getLogger("hyperserve")


class Reason(enum.Enum):
    """Why a job leaves its worker."""

    EXITED = "its process ended"
    PUBLISHED = "its end is published"
    CANCELLED = "cancelled"
    LOST = "the lease is lost"
    STOPPED = "the worker stops"


@dataclass
class Minder:
    """Of a job that has just been claimed."""

    database: Database
    settings: Settings
    job: JobRow
    function: str
    """`module:function`."""
    lapses: float
    """When the lease ends unless it is renewed, by this process's monotonic clock: never later than by the
    database's."""
    _progress: dict[str, Any] | None = None
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: asyncio.Future[Reason] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, reason: Reason) -> None:
        """Ends the child soon; `run` returns when it is gone."""
        if not self._asked.done():
            self._asked.set_result(reason)

    async def run(self) -> Reason:
        try:
            child = await self._spawn()
        except OSError as error:
            log.error("job %s could not be started: %s", self.job.id, error)
            await self._settle(Reason.EXITED)
            return Reason.EXITED
        exited = asyncio.ensure_future(child.wait())
        kept = asyncio.ensure_future(self._keep())
        listened = asyncio.ensure_future(self._listen(child))
        ends: list[asyncio.Future[Any]] = [exited, self._asked, kept]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            reason = self._reason(exited, kept)
            if reason is Reason.PUBLISHED:
                await asyncio.wait(ends[:2], timeout=GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not exited.done():
                log.info("job %s: %s", self.job.id, reason.value)
        finally:
            await _end(child, STOP_SECONDS if self._asked.done() else GRACE_SECONDS)
            for task in (kept, listened):
                task.cancel()
            await asyncio.gather(kept, listened, return_exceptions=True)
        await self._settle(reason)
        return reason

    def _reason(self, exited: asyncio.Future[Any], kept: asyncio.Future[Any]) -> Reason:
        if exited.done():
            status = exited.result()
            if status:
                log.warning("job %s: its process ended with status %d", self.job.id, status)
            return Reason.EXITED
        reason: Reason = kept.result() if kept.done() else self._asked.result()
        return reason

    async def _spawn(self) -> Process:
        order = await asyncio.to_thread(self._order)
        # Spawned, not forked: CUDA and threads do not survive a fork. Its group ends with it.
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers.child",
            # For who looks at a list of processes; the order itself goes through the pipe.
            self.job.id,
            str(self.job.attempt),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=share(self.settings.worker_jobs) | os.environ,
            limit=2 * LINE_MAX,
        )
        assert child.stdin is not None
        child.stdin.write(order.line())
        return child

    def _order(self) -> Order:
        job = self.job
        folder, previous = folders.prepare(self.settings.data_dir, job.id, job.attempt)
        return Order(
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

    async def _listen(self, child: Process) -> None:
        assert child.stdout is not None
        while line := await child.stdout.readline():
            self._progress = json.loads(line)
            self._told.set()

    async def _keep(self) -> Reason:
        """Renews the lease until it is lost or somebody asks to end the job. While the database is away the
        child goes on for as long as nobody else can have taken its job."""
        renewed = time.monotonic()
        while True:
            await self._pause(renewed)
            renewed = time.monotonic()
            answer = await self._renewal()
            if isinstance(answer, Reason):
                return answer
            if answer.cancelled:
                return Reason.CANCELLED

    async def _renewal(self) -> Renewal | Reason:
        """Tried until the lease has lapsed; a reason when there is none any more."""
        told = False
        while (left := self.lapses - time.monotonic()) > 0:
            sent, progress = time.monotonic(), self._progress
            attempt = asyncio.ensure_future(self._renew(progress))
            try:
                # Watched rather than timed out: cancelling a query can itself hang.
                await asyncio.wait({attempt}, timeout=left)
                if not attempt.done():
                    return Reason.LOST
                answer = attempt.result()
            except NO_ANSWER as error:
                if not told:
                    log.warning("job %s: not renewed yet: %s", self.job.id, getattr(error, "orig", error))
                told = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            finally:
                attempt.cancel()
            if self._progress is progress:
                self._progress = None
            self.lapses = sent + self.settings.lease_seconds
            return answer
        return Reason.LOST

    async def _pause(self, renewed: float) -> None:
        """Until a renewal is due: after a quarter of the lease, sooner when there is progress to send."""
        quarter = self.settings.lease_seconds / 4
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), quarter)
            await asyncio.sleep(renewed + min(PROGRESS_SECONDS, quarter) - time.monotonic())
        self._told.clear()

    async def _renew(self, progress: dict[str, Any] | None) -> Renewal | Reason:
        job, token, lease = self.job.id, self.job.lease_token, self.settings.lease_seconds
        async with self.database.write() as session:
            renewed = await repository.renew(session, job, token, round(lease * 1e3), progress)
            if renewed is not None:
                return renewed
            # The child says itself how its job ended, and exits a moment later.
            return Reason.PUBLISHED if await repository.published(session, job, token) else Reason.LOST

    async def _settle(self, reason: Reason) -> None:
        """Says how it ended, where the child has not. What cannot be said in time, the lapse of the lease says."""
        job, token = self.job.id, self.job.lease_token

        async def settle(session: AsyncSession) -> None:
            if reason is Reason.CANCELLED:
                await repository.finish(session, job, token, "cancelled")
            else:
                await repository.release(session, job, token, blame=reason is not Reason.STOPPED)

        if reason not in (Reason.LOST, Reason.PUBLISHED):
            patience = STOP_SECONDS if self._asked.done() else self.lapses - time.monotonic()
            await self._persist(settle, patience)

    async def _persist(self, write: Callable[[AsyncSession], Awaitable[None]], seconds: float) -> None:
        async def attempts() -> None:
            while True:
                try:
                    async with self.database.write() as session:
                        return await write(session)
                except NO_ANSWER:
                    await asyncio.sleep(RETRY_SECONDS)

        work = asyncio.ensure_future(attempts())
        await asyncio.wait({work}, timeout=max(0.0, seconds))
        if work.done():
            work.result()
        else:
            work.cancel()
            log.warning("job %s: the database does not answer; its lease lapses", self.job.id)


async def _end(child: Process, grace: float) -> None:
    """Terminate, then kill, and whatever it left in its group."""
    if child.returncode is None:
        _signal(child, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), grace)
    _signal(child, signal.SIGKILL)
    await child.wait()


def _signal(child: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
