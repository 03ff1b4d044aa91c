"""Monitors the table of jobs many times a second, and measures how soon jobs recover from each kill."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from sqlalchemy import Row, select

from app.db.database import Database
from app.db.errors import DatabaseError
from app.db.tables import JobRow
from app.jobs.repository import ACTIVE
from benchmarks.fault_injection.service_under_test import KillTarget, Victim

POLL_SECONDS = 0.05
_COLUMNS = (
    JobRow.id,
    JobRow.state,
    JobRow.attempt,
    JobRow.lease_owner,
    JobRow.lease_until,
    JobRow.cancel_requested,
)


@dataclass
class InterruptedJob:
    """A job that a kill interrupted. `recovered` are the seconds until it ran again, continued or had finished.

    Downtime of the database does not count, and the clock restarts if a further kill hits the processes that would have
    recovered the job; `since_first_kill` counts from the first kill nevertheless.
    """

    victim: Victim
    id: str
    attempt: int
    at: float
    wall: float
    """Time of the kill by the clock of the database."""
    recovered: float | None = None
    since_first_kill: float | None = None
    first_killed: float = field(init=False)

    def __post_init__(self) -> None:
        self.first_killed = self.at


@dataclass
class JobMonitor:
    """The last state of all jobs, and the jobs interrupted so far."""

    database: Database
    lease: float
    rows: dict[str, Row[str, str, int, str | None, int | None, bool]] = field(default_factory=dict)
    interrupted: list[InterruptedJob] = field(default_factory=list)
    cancels: dict[str, float] = field(default_factory=dict)
    """Times at which the cancellation of jobs was acknowledged."""
    cancelled: dict[str, float] = field(default_factory=dict)
    """Seconds that cancellations took."""
    down_since: float | None = None
    down: list[tuple[float, float]] = field(default_factory=list)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            try:
                async with asyncio.timeout(5):
                    await self.poll()
            except DatabaseError:
                self.down_since = self.down_since or time.monotonic()
            await asyncio.sleep(POLL_SECONDS)

    async def poll(self) -> None:
        async with self.database.read() as session:
            found = (await session.execute(select(*_COLUMNS))).all()
        now = time.monotonic()
        if self.down_since is not None:
            self.down.append((self.down_since, now))
            self.down_since = None
        self.rows = {row.id: row for row in found}
        for job in self.interrupted:
            if job.recovered is None and self._recovered(job):
                job.recovered = now - job.at - self._downtime(job.at, now)
                job.since_first_kill = now - job.first_killed
        for id, since in self.cancels.items():
            if id not in self.cancelled and self.rows[id].state not in ACTIVE:
                self.cancelled[id] = now - since - self._downtime(since, now)

    def record_kill(self, victim: Victim, target: KillTarget, at: float, wall: float) -> None:
        """Note the jobs that a kill interrupts, according to the last poll."""
        if victim in ("supervisor", "api"):
            for job in self.interrupted:
                job.at = at if job.recovered is None else job.at
        for row in self.rows.values():
            if row.state != "running":
                continue
            under = int((row.lease_owner or ":0").rpartition(":")[2]) in target.supervisors
            if row.id == target.job or (target.job is None and under):
                self.interrupted.append(InterruptedJob(victim, row.id, row.attempt, at, wall))

    def _recovered(self, job: InterruptedJob) -> bool:
        row = self.rows[job.id]
        if row.state not in ACTIVE or row.attempt > job.attempt:
            return True
        # If only the database was killed, the job continues and its lease has been renewed since.
        return job.victim == "database" and (row.lease_until or 0) / 1e3 - self.lease > job.wall

    @property
    def active(self) -> int:
        return sum(row.state in ACTIVE for row in self.rows.values())

    def _downtime(self, since: float, until: float) -> float:
        return sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in self.down)
