"""kill -9 in the middle of a registration: what is published goes on, and the job is finished later, once."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from app.db.database import Database
from app.db.tables import JobRow
from app.jobs import repository as queue
from tests.workers.kinds import register_slowly
from tests.workers.stream_bench import HYPERNETWORK, StreamBench
from tests.workers.test_supervisor import children, until
from workers.jobs import KINDS
from workers.supervisor import Supervisor

PATIENCE_SECONDS = 100
SLOW = f"{register_slowly.__module__}:{register_slowly.__name__}"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_killed_registration_is_finished_later_once(
    bench: StreamBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Children read the environment, as they do under a worker process.
    monkeypatch.setenv("HYPERSERVE_DATA_DIR", str(bench.folder))

    async def story() -> None:
        # What tells a step as it learns, to be killed at.
        await bench.create(**HYPERNETWORK)
        await bench.register("first", "a", "b")
        published = await bench.stored()
        id = (await bench.request("second", "c", "d")).job.id
        third = await bench.request("third", "e", "f")
        assert third.ahead == 1
        settings = bench.settings.model_copy(update={"worker_jobs": 2})
        database, stop = Database(settings.database), asyncio.Event()
        kinds = {**KINDS, "stream_register": SLOW}
        worker = asyncio.create_task(Supervisor(database, settings, kinds).run(stop))
        try:
            await until((bench.folder / "jobs" / id / "1" / "middle").exists, PATIENCE_SECONDS)
            (victim,) = children()
            assert [task.state for task in (await bench.tasks()).values()] == [
                "ready",
                "registering",
                "registering",
            ], "one at a time, though the worker runs two"
            async with bench.store.write() as session:
                await queue.request_cancel(session, third.job.id)
            os.kill(victim, signal.SIGKILL)
            assert await bench.stored() == published
            assert (await bench.version()).tasks == ("first",), "what is published is whole"
            finished = await ended(bench, id)
            assert (finished.state, finished.attempt) == ("succeeded", 2)
        finally:
            stop.set()
            await worker
            await database.close()
        listed = await bench.versions()
        assert [(version.number, version.task) for version in listed] == [(2, "second"), (1, "first")]
        assert await bench.stored(1) == published
        assert (await bench.version()).tasks == ("first", "second")

    asyncio.run(story())


async def ended(bench: StreamBench, id: str) -> JobRow:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (job := await find(bench, id)).state in queue.ACTIVE:  # noqa: ASYNC110
            await asyncio.sleep(0.3)
    return job


async def find(bench: StreamBench, id: str) -> JobRow:
    async with bench.store.read() as session:
        found = await queue.get(session, id)
    assert found is not None
    return found
