"""The worker: claims jobs, gives each a child process, and outlives everything but itself being killed."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from app.core.ids import new_id
from app.core.settings import Settings
from app.db.engine import Database
from app.jobs import folders, repository
from workers.job_runner import STOP_SECONDS, Minder, Reason

POLL_SECONDS = 0.5
"""How long a new job or a cancellation may go unseen."""

log = logging.getLogger("hyperserve")


class Supervisor:
    """Runs jobs of some kinds, `settings.worker_jobs` at a time."""

    def __init__(self, database: Database, settings: Settings, kinds: Mapping[str, str]) -> None:
        self._database = database
        self._settings = settings
        self._kinds = kinds
        self.owner = new_id("worker") + f"@{socket.gethostname()[:64]}:{os.getpid()}"
        self._minders: dict[str, Minder] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`: then children are ended and their jobs given back to the queue."""
        log.info("worker %s takes jobs: %s", self.owner, ", ".join(sorted(self._kinds)))
        self._start(self._tidy())
        rounds = asyncio.create_task(self._rounds(stop))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({rounds, stopped}, return_when=asyncio.FIRST_COMPLETED)
        self._freed.set()
        # A claim that is under way shall be known, so that it can be given back.
        await asyncio.wait({rounds}, timeout=STOP_SECONDS)
        for task in (rounds, stopped):
            task.cancel()
        for minder in self._minders.values():
            minder.end(Reason.STOPPED)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not stop.is_set():
            rounds.result()

    async def _rounds(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._round(stop)
                self._answers(None)
            except (SQLAlchemyError, OSError) as error:
                self._answers(error)
            self._freed.clear()
            with suppress(TimeoutError):
                seconds = min(POLL_SECONDS, self._settings.lease_seconds / 4)
                await asyncio.wait_for(self._freed.wait(), seconds)

    async def _round(self, stop: asyncio.Event) -> None:
        async with self._database.read() as session:
            seen = await repository.signals(session, self.owner, self._kinds)
        for job in seen.cancelled & self._minders.keys():
            self._minders[job].end(Reason.CANCELLED)
        if seen.lapsed:
            async with self._database.write() as session:
                await repository.reap(session)
        while len(self._minders) < self._settings.worker_jobs and not stop.is_set():
            if not (seen.waiting or seen.lapsed) or not await self._take():
                return

    async def _take(self) -> bool:
        """Whether there was a job."""
        lease = self._settings.lease_seconds
        lapses = time.monotonic() + lease
        async with self._database.write() as session:
            job = await repository.claim(session, self.owner, round(lease * 1e3), self._kinds)
        if job is None:
            return False
        log.info("job %s (%s): attempt %d of %d", job.id, job.kind, job.attempt, job.max_attempts)
        minder = Minder(self._database, self._settings, job, self._kinds[job.kind], lapses)
        self._minders[job.id] = minder
        self._start(self._mind(minder))
        return True

    async def _mind(self, minder: Minder) -> None:
        try:
            await minder.run()
        except Exception:
            log.exception("job %s was not minded to its end", minder.job.id)
        finally:
            del self._minders[minder.job.id]
            self._freed.set()
        await self._tidy()

    async def _tidy(self) -> None:
        with suppress(SQLAlchemyError, OSError):
            await folders.tidy(self._database, self._settings.data_dir)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answers(self, error: Exception | None) -> None:
        """Says once that the database went away, and once that it is back."""
        if error is not None and not self._away:
            log.warning("the queue does not answer: %s", getattr(error, "orig", error))
        if error is None and self._away:
            log.warning("the queue answers again")
        self._away = error is not None
