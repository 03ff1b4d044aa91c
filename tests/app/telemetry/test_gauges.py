"""Gauges of the queue, from the database."""

from __future__ import annotations

import asyncio

from app.core.ids import new_id
from app.db.clock import now_ms
from app.db.database import Database
from app.db.tables import JobRow
from app.telemetry.gauges import JobGauges


def gauges(found: JobGauges) -> dict[str, float]:
    return {
        "/".join([metric.name, *sample.labels.values()]): sample.value
        for metric in found.collect()
        for sample in metric.samples
    }


def job(**values: object) -> JobRow:
    return JobRow(id=new_id("job"), tenant="t", kind="train", payload={}, **values)


def test_states_and_age(database_url: str) -> None:
    async def test() -> None:
        database = Database(database_url)
        async with database.write() as session:
            session.add_all(
                [
                    job(state="queued", run_at=now_ms() - 5_000),
                    job(state="queued", run_at=now_ms() + 5_000),
                    job(state="dead", run_at=0),
                    job(state="running", run_at=0, lease_owner="w1", lease_until=now_ms() + 9_000),
                    job(state="running", run_at=0, lease_owner="w1", lease_until=now_ms() + 9_000),
                    job(state="running", run_at=0, lease_owner="w2", lease_until=now_ms() - 9_000),
                ]
            )
        found = JobGauges(database)
        await found.read()
        found_gauges = gauges(found)
        assert found_gauges["hyperserve_jobs/queued"] == 2
        assert found_gauges["hyperserve_jobs/running"] == 3
        assert found_gauges["hyperserve_jobs/dead"] == 1
        assert found_gauges["hyperserve_jobs/failed"] == 0
        assert 5 <= found_gauges["hyperserve_oldest_queued_job_seconds"] < 60
        assert found_gauges["hyperserve_workers_busy"] == 1
        await database.close()

    asyncio.run(test())


def test_a_database_that_is_away(tmp_path: object) -> None:
    async def test() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/none/x.db")
        found = JobGauges(database)
        await found.read()
        assert gauges(found) == {"hyperserve_database_up": 0}
        await database.close()
        await asyncio.sleep(0.1)  # The driver's thread ends after it has failed.

    asyncio.run(test())
