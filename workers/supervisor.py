"""The worker: claims jobs and runs each in a child process, whose end it outlives."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress

from app.core.ids import new_id
from app.core.settings import Settings
from app.db.database import Database
from app.db.errors import DatabaseError
from app.jobs import folders, repository
from workers.job_runner import STOP_SECONDS, EndReason, JobRunner

POLL_SECONDS = 0.5
"""Longest time until a new job or a cancellation is noticed."""

log = logging.getLogger("hyperserve")


class Supervisor:
    """Runs jobs of these kinds, for all tenants, `settings.worker_jobs` at a time."""

    def __init__(self, database: Database, settings: Settings, kinds: Mapping[str, str]) -> None:
        self._database = database
        self._settings = settings
        self._kinds = kinds
        self.owner = new_id("worker") + f"@{socket.gethostname()[:64]}:{os.getpid()}"
        self._runners: dict[str, JobRunner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()
        self._away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`; then end the children and give their jobs back to the queue."""
        log.info("worker %s takes jobs: %s", self.owner, ", ".join(sorted(self._kinds)))
        self._start(self._tidy())
        rounds = asyncio.create_task(self._rounds(stop))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({rounds, stopped}, return_when=asyncio.FIRST_COMPLETED)
        self._freed.set()
        # A job whose claim is under way must be known, so that it is given back.
        await asyncio.wait({rounds}, timeout=STOP_SECONDS)
        for task in (rounds, stopped):
            task.cancel()
        for runner in self._runners.values():
            runner.stop(EndReason.STOPPED)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not stop.is_set():
            rounds.result()

    async def _rounds(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._round(stop)
                self._note_queue(None)
            except DatabaseError as error:
                self._note_queue(error)
            self._freed.clear()
            with suppress(TimeoutError):
                seconds = min(POLL_SECONDS, self._settings.lease_seconds / 4)
                await asyncio.wait_for(self._freed.wait(), seconds)

    async def _round(self, stop: asyncio.Event) -> None:
        async with self._database.read() as session:
            seen = await repository.signals(session, self.owner, self._kinds)
        for job in seen.cancelled & self._runners.keys():
            self._runners[job].stop(EndReason.CANCELLED)
        if seen.lapsed:
            async with self._database.write() as session:
                await repository.reap(session)
        while len(self._runners) < self._settings.worker_jobs and not stop.is_set():
            if not (seen.waiting or seen.lapsed) or not await self._take():
                return

    async def _take(self) -> bool:
        """Claim a job and run it. Return False if there was none."""
        lease = self._settings.lease_seconds
        lease_end = time.monotonic() + lease
        async with self._database.write() as session:
            job = await repository.claim(session, self.owner, round(lease * 1e3), self._kinds)
        if job is None:
            return False
        log.info("job %s (%s): attempt %d of %d", job.id, job.kind, job.attempt, job.max_attempts)
        runner = JobRunner(self._database, self._settings, job, self._kinds[job.kind], lease_end)
        self._runners[job.id] = runner
        self._start(self._run_job(runner))
        return True

    async def _run_job(self, runner: JobRunner) -> None:
        try:
            await runner.run()
        except Exception:
            log.exception("job %s: its process is not watched any more", runner.job.id)
        finally:
            del self._runners[runner.job.id]
            self._freed.set()
        await self._tidy()

    async def _tidy(self) -> None:
        with suppress(DatabaseError, OSError):
            await folders.tidy(self._database, self._settings.data_dir)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note_queue(self, error: Exception | None) -> None:
        """Log once that the database is away, and once that it is back."""
        if error is not None and not self._away:
            log.warning("the queue does not answer: %s", error)
        if error is None and self._away:
            log.warning("the queue answers again")
        self._away = error is not None
