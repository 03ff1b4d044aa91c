"""Gauges of jobs and streams, read from the database when metrics are scraped, every few seconds at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import and_, case, func, select

from app.db.clock import now_ms
from app.db.database import Database
from app.db.errors import DatabaseError
from app.db.tables import JobRow, StreamPartRow, StreamRow, StreamVersionRow

STATES = ("queued", "running", "succeeded", "failed", "cancelled", "dead")
FRESH_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0


class JobGauges(Collector):
    """Gauges of the job queue. Call `read`, then collect. Without the database only its absence is reported."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read_at = float("-inf")
        self._states: dict[str, int] | None = None
        self._oldest = 0.0
        self._working = 0

    async def read(self) -> None:
        if time.monotonic() - self._read_at < FRESH_SECONDS:
            return
        self._read_at = time.monotonic()
        row = JobRow
        # Not by creation: a job that is scheduled for later is not late.
        waiting = select(func.min(row.run_at)).where(row.state == "queued")
        held = select(func.count(func.distinct(row.lease_owner))).where(
            row.state == "running", row.lease_until > now_ms()
        )
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._database.read() as session:
                counts = await session.execute(select(row.state, func.count()).group_by(row.state))
                self._states = {row[0]: row[1] for row in counts}
                now, oldest, working = (
                    await session.execute(select(now_ms(), waiting.scalar_subquery(), held.scalar_subquery()))
                ).one()
        except (DatabaseError, TimeoutError):
            self._states = None
            return
        self._oldest = 0.0 if oldest is None else max(0.0, (now - oldest) / 1e3)
        self._working = working

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("hyperserve_database_up", "1 if the database answers, else 0.")
        up.add_metric([], self._states is not None)
        yield up
        if self._states is None:
            return
        jobs = GaugeMetricFamily(
            "hyperserve_jobs", "Jobs by state, until they are dropped.", labels=["state"]
        )
        for state in STATES:
            jobs.add_metric([state], self._states.get(state, 0))
        yield jobs
        yield GaugeMetricFamily(
            "hyperserve_oldest_queued_job_seconds", "Time that the oldest job has waited.", value=self._oldest
        )
        yield GaugeMetricFamily(
            "hyperserve_workers_busy", "Workers that hold the lease of a running job.", value=self._working
        )


class StreamGauges(Collector):
    """Gauges of streams. Call `read`, then collect. Without the database there are none."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read_at = float("-inf")
        self._found: tuple[int, int, int, float] | None = None

    async def read(self) -> None:
        if time.monotonic() - self._read_at < FRESH_SECONDS:
            return
        self._read_at = time.monotonic()
        part, version = StreamPartRow, StreamVersionRow
        current = and_(version.stream_id == StreamRow.id, version.number == StreamRow.current)
        held = (
            select(
                func.count(),
                func.coalesce(func.sum(case((part.alarm, 1), else_=0)), 0),
                func.coalesce(func.max(part.drift), 0.0),
            )
            .select_from(StreamRow)
            .join(version, current)
            .join(part, part.version_id == version.id)
        )
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._database.read() as session:
                streams = (await session.scalars(select(func.count()).select_from(StreamRow))).one()
                tasks, alarms, drift = (await session.execute(held)).one()
        except (DatabaseError, TimeoutError):
            self._found = None
            return
        self._found = streams, tasks, alarms, drift

    def collect(self) -> Iterable[Metric]:
        if self._found is None:
            return
        streams, tasks, alarms, drift = self._found
        for name, text, value in (
            ("hyperserve_streams", "Streams that clients have created.", streams),
            ("hyperserve_stream_tasks", "Stream tasks of current versions.", tasks),
            ("hyperserve_stream_task_alarms", "Stream tasks beyond the bounds of the alarm.", alarms),
            ("hyperserve_stream_largest_drift", "Largest drift of a network since its registration.", drift),
        ):
            yield GaugeMetricFamily(name, text, value=value)
