"""Gauges of streams, read from the database when somebody asks, every few seconds at most.

Of all together: names of streams are clients', and a metric carries none. GET /v1/streams/{name}/tasks says which.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import and_, case, func, select
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import Database
from app.db.tables import StreamPartRow, StreamRow, StreamVersionRow
from app.telemetry.jobs import FRESH_SECONDS, TIMEOUT_SECONDS


class StreamGauges(Collector):
    """`read`, then collect. While the database is away there are no streams to see."""

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
        except (SQLAlchemyError, OSError):
            self._found = None
            return
        self._found = streams, tasks, alarms, drift

    def collect(self) -> Iterable[Metric]:
        if self._found is None:
            return
        streams, tasks, alarms, drift = self._found
        for name, text, value in (
            ("hyperserve_streams", "Streams that clients have made.", streams),
            ("hyperserve_stream_tasks", "Stream tasks that their current versions hold.", tasks),
            ("hyperserve_stream_task_alarms", "Of those, how many are beyond the alarm's bounds.", alarms),
            ("hyperserve_stream_largest_drift", "Of their networks since registration.", drift),
        ):
            yield GaugeMetricFamily(name, text, value=value)
