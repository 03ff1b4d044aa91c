"""Looks at the table of jobs many times a second, and times how soon each kill is made good."""

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

LOOK_SECONDS = 0.05
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
    """A job that ran under what was killed. `recovered`: seconds until it ran again, went on or had finished.

    The time in which the database was down does not count, and the clock starts anew when a further kill takes
    those away who would have recovered it; `first` tells the time since the first kill all the same.
    """

    victim: Victim
    job: str
    attempt: int
    at: float
    wall: float
    """The same instant by the clock that the database has."""
    recovered: float | None = None
    first: float | None = None
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.at


@dataclass
class JobMonitor:
    """What was seen last, and when."""

    database: Database
    lease: float
    rows: dict[str, Row[str, str, int, str | None, int | None, bool]] = field(default_factory=dict)
    hits: list[InterruptedJob] = field(default_factory=list)
    cancels: dict[str, float] = field(default_factory=dict)
    """Jobs whose cancellation was acknowledged, and when."""
    cancelled: dict[str, float] = field(default_factory=dict)
    """Seconds that it took."""
    down_since: float | None = None
    down: list[tuple[float, float]] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(5):
                    await self.look()
            except DatabaseError:
                self.down_since = self.down_since or time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        async with self.database.read() as session:
            found = (await session.execute(select(*_COLUMNS))).all()
        now = time.monotonic()
        if self.down_since is not None:
            self.down.append((self.down_since, now))
            self.down_since = None
        self.rows = {row.id: row for row in found}
        for hit in self.hits:
            if hit.recovered is None and self._made_good(hit):
                hit.recovered = now - hit.at - self._down_between(hit.at, now)
                hit.first = now - hit.begun
        for job, since in self.cancels.items():
            if job not in self.cancelled and self.rows[job].state not in ACTIVE:
                self.cancelled[job] = now - since - self._down_between(since, now)

    def hit(self, victim: Victim, struck: KillTarget, at: float, wall: float) -> None:
        """What ran there, as last seen."""
        if victim in ("supervisor", "api"):
            for hit in self.hits:
                hit.at = at if hit.recovered is None else hit.at
        for row in self.rows.values():
            if row.state != "running":
                continue
            under = int((row.lease_owner or ":0").rpartition(":")[2]) in struck.supervisors
            if row.id == struck.job or (struck.job is None and under):
                self.hits.append(InterruptedJob(victim, row.id, row.attempt, at, wall))

    def _made_good(self, hit: InterruptedJob) -> bool:
        row = self.rows[hit.job]
        if row.state not in ACTIVE or row.attempt > hit.attempt:
            return True
        # A job whose database alone was killed never ended: its lease was renewed since.
        return hit.victim == "database" and (row.lease_until or 0) / 1e3 - self.lease > hit.wall

    @property
    def active(self) -> int:
        return sum(row.state in ACTIVE for row in self.rows.values())

    def _down_between(self, since: float, until: float) -> float:
        return sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in self.down)
