"""Gauges of streams: of what answers now, of all streams together, and nothing that a client named."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.db.database import Database
from app.db.migrate import upgrade
from app.db.tables import StreamPartRow, StreamRow, StreamTaskRow, StreamVersionRow
from app.telemetry.gauges import StreamGauges


def gauges(found: StreamGauges) -> dict[str, float]:
    return {sample.name: sample.value for metric in found.collect() for sample in metric.samples}


async def add(database: Database) -> None:
    """Add a stream with two versions; the first is current, and its two tasks have drifted."""
    stream = StreamRow(
        id="strm_1", tenant="t", name="s", config={}, current=1, latest=2, alarm_drift=0.5, alarm_fall=0.05
    )
    async with database.write() as session:
        session.add(stream)
        await session.flush()
        for name in ("a", "b"):
            session.add(
                StreamTaskRow(
                    id=f"st_{name}", tenant="t", stream_id=stream.id, name=name, labels=[], examples=1
                )
            )
        for number in (1, 2):
            session.add(
                StreamVersionRow(
                    id=f"sv_{number}",
                    tenant="t",
                    stream_id=stream.id,
                    number=number,
                    blob="",
                    origin="copied",
                )
            )
        await session.flush()
        for version, position, drift in (("sv_1", 0, 0.25), ("sv_1", 1, 0.75), ("sv_2", 0, 4.0)):
            part = {"version_id": version, "position": position, "tenant": "t", "blob": ""}
            task = f"st_{'ab'[position]}"
            session.add(StreamPartRow(**part, task_id=task, drift=drift, alarm=drift > 0.5))


def test_drift_and_alarms_are_those_of_what_answers(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"

    async def read() -> list[dict[str, float]]:
        await asyncio.to_thread(upgrade, url)
        database, found = Database(url), []
        for work in (None, add):
            if work is not None:
                await work(database)
            here = StreamGauges(database)
            await here.read()
            found.append(gauges(here))
        await database.close()
        return found

    before, after = asyncio.run(read())
    assert set(before.values()) == {0}
    assert after == {
        "hyperserve_streams": 1,
        "hyperserve_stream_tasks": 2,
        "hyperserve_stream_task_alarms": 1,
        "hyperserve_stream_largest_drift": 0.75,
    }


def test_without_a_database_there_is_nothing_to_see(tmp_path: Path) -> None:
    async def read() -> dict[str, float]:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'none' / 'x.db'}")
        found = StreamGauges(database)
        await found.read()
        await database.close()
        await asyncio.sleep(0.1)  # The driver's thread ends after it has failed.
        return gauges(found)

    assert asyncio.run(read()) == {}
