"""A database server that is killed and comes back while jobs run."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from app.db.migrate import upgrade
from tests.servers.postgres import Postgres
from tests.workers.conftest import QueueBench, teller

LEASE_SECONDS = 8.0


def test_a_job_outlives_an_absence_shorter_than_its_lease(
    own_postgres_server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither begun again nor published twice, and the worker goes on."""
    upgrade(own_postgres_server.url)

    async def story(short: QueueBench) -> None:
        settings = short.settings.model_copy(update={"lease_seconds": LEASE_SECONDS})
        bench = replace(short, settings=settings)
        id = await bench.add("work", payload={"seconds": 1.5})
        async with bench.worker():
            await bench.until(id, "running")
            await asyncio.to_thread(own_postgres_server.stop)
            # Long enough for the child to want to publish.
            await asyncio.sleep(3)
            await asyncio.to_thread(own_postgres_server.start)
            await bench.database.engine.dispose()
            job = await bench.ended(id)
            assert (job.state, job.attempt, await bench.effects(id)) == ("succeeded", 1, 1)
            assert (await bench.ended(await bench.add("work"))).state == "succeeded"

    teller(own_postgres_server.url, tmp_path / "data", monkeypatch)(story)
