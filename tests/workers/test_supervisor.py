"""The supervisor and its children: what becomes of a job, however its process ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from sqlalchemy import update

from app.db.tables import JobRow
from app.jobs import repository
from tests.workers.conftest import QueueBench

Run = Callable[[Callable[[QueueBench], Awaitable[None]]], None]


def alive(pid: int) -> bool:
    """A zombie that waits for init is dead enough."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children() -> list[int]:
    """Return the pids of the children of the supervisor in this process."""
    found = []
    for child in psutil.Process().children():
        # One that has just ended is none any more.
        with suppress(psutil.NoSuchProcess):
            if "workers.child" in child.cmdline():
                found.append(child.pid)
    return found


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_ends_of_jobs(run: Run) -> None:
    """Several at a time; a process that dies gets another attempt, until there is none left."""

    async def story(bench: QueueBench) -> None:
        done = await bench.add("work")
        resumed = await bench.add("resume")
        dead = await bench.add("poison", max_attempts=2)
        unknown = await bench.add("unknown")
        async with bench.worker():
            job = await bench.ended(done)
            assert (job.state, job.attempt) == ("succeeded", 1)
            assert job.result == {"attempt": 1, "nan": None}
            assert job.progress == {"step": 20, "steps": 20, "loss": None}
            assert await bench.effects(done) == 1
            assert (await bench.ended(resumed)).result == {"from": 7, "attempt": 3}
            poison = await bench.ended(dead)
            assert (poison.state, poison.attempt) == ("dead", 2)
            await until(lambda: not list((bench.settings.data_dir / "jobs").iterdir()))
        assert (await bench.job(unknown)).state == "queued"

    run(story)


def test_healthy_job_outlives_its_lease(run: Run) -> None:
    """And tells how far it is meanwhile, though not at every step."""

    async def story(bench: QueueBench) -> None:
        id = await bench.add("work", payload={"seconds": 3})
        async with bench.worker():
            await bench.until(id, "running")
            first = await bench.job(id)
            async with asyncio.timeout(20):
                while (seen := await bench.job(id)).progress is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.03)
            assert seen.progress["step"] < 20
            done = await bench.ended(id)
        assert done.sequence - first.sequence < 10
        assert (done.state, done.attempt) == ("succeeded", 1)

    run(story)


def test_cancel_ends_even_a_stubborn_process_and_its_helpers(run: Run, tmp_path: Path) -> None:
    async def story(bench: QueueBench) -> None:
        place = tmp_path / "pids"
        id = await bench.add("stubborn", payload={"pids": str(place)})
        async with bench.worker():
            await until(place.exists)
            pids = [int(pid) for pid in place.read_text().split()]
            assert all(alive(pid) for pid in pids)
            requested = time.monotonic()
            job = await bench.cancel(id)
            assert job is not None
            assert (job.state, job.cancel_requested) == ("running", True)
            assert (await bench.ended(id)).state == "cancelled"
            assert time.monotonic() - requested < 5
            await until(lambda: not any(alive(pid) for pid in pids))

    run(story)


def test_orderly_stop_gives_jobs_back(run: Run) -> None:
    """At once, and it costs them no attempt."""

    async def story(bench: QueueBench) -> None:
        id = await bench.add("work", payload={"seconds": 60}, max_attempts=1)
        async with bench.worker() as stop:
            await bench.until(id, "running")
            started = time.monotonic()
            await stop()
            assert time.monotonic() - started < 4
        job = await bench.job(id)
        assert (job.state, job.attempt, job.max_attempts, job.lease_owner) == ("queued", 1, 2, None)

    run(story)


def test_job_that_was_taken_away_publishes_nothing(run: Run) -> None:
    """Its process is ended when its supervisor hears of it."""

    async def story(bench: QueueBench) -> None:
        id = await bench.add("work", payload={"seconds": 60})
        async with bench.worker():
            await until(lambda: bool(children()))
            (pid,) = children()
            async with bench.database.write() as session:
                taken = {"lease_token": JobRow.lease_token + 1, "lease_owner": "another"}
                taken["lease_until"] = JobRow.lease_until + 60_000
                await session.execute(update(JobRow).where(JobRow.id == id).values(taken))
            await until(lambda: not alive(pid))
            job = await bench.job(id)
            assert (job.state, job.lease_owner) == ("running", "another")
            assert [path.name for path in (bench.settings.data_dir / "jobs").iterdir()] == [id]

    run(story)


def test_job_that_has_ended_is_not_said_to_be_lost(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Its process publishes the end before it exits, and the supervisor may renew in between."""

    async def story(bench: QueueBench) -> None:
        id = await bench.add("work", payload={"seconds": 60})
        async with bench.worker():
            await until(lambda: bool(children()))
            async with bench.store.write() as session:
                token = (await bench.job(id)).lease_token
                assert await repository.finish(session, id, token, "succeeded")
            await until(lambda: not children())
        assert (await bench.job(id)).state == "succeeded"

    with caplog.at_level("INFO"):
        run(story)
    assert "its end is published" in caplog.text
    assert "lost" not in caplog.text
