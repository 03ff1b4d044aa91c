"""Event streams of jobs: followers hear of a change at once if this process is woken, otherwise within a second.

One query serves all streams of the process, and none is made while nobody follows a job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from app.db.database import Database
from app.db.errors import DatabaseError
from app.db.invalidation_log import EVERYTHING, Change
from app.jobs import repository

POLL_SECONDS = 1.0
STREAMS_MAX = 1_000
_CHUNK = 500

log = logging.getLogger("hyperserve")


@dataclass(eq=False)
class Follower:
    """One event stream of a job."""

    job: str
    sequence: int
    """Sequence number of the job in the last event."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Followers:
    """All event streams of this process. A listener of `app.db.invalidation_log.ChangeWatcher`."""

    def __init__(self, database: Database, seconds: float = POLL_SECONDS) -> None:
        self._database = database
        self._seconds = seconds
        self._all: set[Follower] = set()
        self._some = asyncio.Event()
        self.closed = False

    async def __call__(self, news: Sequence[Change]) -> None:
        jobs = {change.subject for change in news if change.kind == "job"}
        for follower in self._all:
            if follower.job in jobs or any(change.kind == EVERYTHING for change in news):
                follower.changed.set()

    @property
    def full(self) -> bool:
        return len(self._all) >= STREAMS_MAX

    @contextmanager
    def follow(self, job: str, sequence: int) -> Iterator[Follower]:
        follower = Follower(job, sequence)
        self._all.add(follower)
        self._some.set()
        try:
            yield follower
        finally:
            self._all.discard(follower)

    def close(self) -> None:
        """End all streams. Clients reconnect with the last event that they saw."""
        self.closed = True
        for follower in self._all:
            follower.changed.set()

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            if not self._all:
                self._some.clear()
                await self._some.wait()
            with suppress(DatabaseError):
                await self._look()
            await asyncio.sleep(self._seconds)

    async def _look(self) -> None:
        jobs = sorted({follower.job for follower in self._all})
        found: dict[str, int] = {}
        for start in range(0, len(jobs), _CHUNK):
            async with self._database.read() as session:
                found |= await repository.sequences(session, jobs[start : start + _CHUNK])
        for follower in self._all:
            if found.get(follower.job) != follower.sequence:
                follower.changed.set()
