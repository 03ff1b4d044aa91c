"""Jobs of one lane run one at a time and in their order, whoever claims them; other lanes go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import text

from app.db.database import Database
from app.db.tables import JobRow
from app.db.tenancy import TenantSession
from app.jobs import repository
from app.jobs import repository as queue
from tests.app.stores import store_of

Run = Callable[[Callable[[Database], Awaitable[None]]], None]
LONG, LAPSED = 60_000, -1


async def add(database: Database, lane: str | None, count: int = 1, **how: object) -> list[str]:
    async with store_of(database).write() as session:
        return [(await queue.enqueue(session, "k", {}, lane=lane, **how)).id for _ in range(count)]


async def claim(database: Database, lease_ms: int = LONG) -> JobRow | None:
    async with store_of(database).write() as session:
        return await queue.claim(session, "w", lease_ms)


async def claimed(database: Database, lease_ms: int = LONG) -> JobRow:
    job = await claim(database, lease_ms)
    assert job is not None
    return job


async def end(database: Database, job: JobRow) -> None:
    async with store_of(database).write() as session:
        assert await queue.finish(session, job.id, job.lease_token, "succeeded")


async def waiting(database: Database) -> bool:
    async with store_of(database).read() as session:
        return (await queue.signals(session, "w", ["k"])).waiting


def test_one_at_a_time_and_in_order(run: Run) -> None:
    async def story(database: Database) -> None:
        ids = await add(database, "a", 4)
        for id in ids:
            job = await claimed(database)
            assert job.id == id
            assert await claim(database) is None, "the lane has a job that runs"
            assert not await waiting(database), "so that workers need not try"
            await end(database, job)
        assert await claim(database) is None

    run(story)


def test_other_lanes_and_jobs_of_none_go_on(run: Run) -> None:
    async def story(database: Database) -> None:
        first, _ = await add(database, "a", 2)
        (other,), (free, further) = await add(database, "b"), await add(database, None, 2)
        assert [(await claimed(database)).id for _ in range(4)] == [first, other, free, further]
        assert await claim(database) is None

    run(story)


def test_a_priority_does_not_overtake_within_a_lane(run: Run) -> None:
    async def story(database: Database) -> None:
        (first,), (second,) = await add(database, "a"), await add(database, "a", priority=5)
        assert (await claimed(database)).id == first
        async with store_of(database).write() as session:
            await queue.request_cancel(session, second)
        assert await claim(database) is None

    run(story)


def test_a_lost_job_stays_first_of_its_lane(run: Run) -> None:
    async def story(database: Database) -> None:
        first, second = await add(database, "a", 2)
        assert (await claimed(database, LAPSED)).id == first
        again = await claimed(database)
        assert (again.id, again.attempt) == (first, 2)
        async with store_of(database).write() as session:
            await queue.release(session, first, again.lease_token)
        last = await claimed(database, LAPSED)
        assert (last.id, last.attempt) == (first, 3)
        assert (await claimed(database)).id == second, "after its last attempt the next one's turn has come"

    run(story)


def test_a_cancelled_job_makes_way(run: Run) -> None:
    async def story(database: Database) -> None:
        first, second = await add(database, "a", 2)
        async with store_of(database).write() as session:
            await queue.request_cancel(session, first)
        assert (await claimed(database)).id == second

    run(story)


def test_what_is_ahead_of_a_job(run: Run) -> None:
    async def story(database: Database) -> None:
        first, second, third = await add(database, "a", 3)
        await add(database, "b")
        await claimed(database)
        async with store_of(database).read() as session:
            job = await queue.get(session, third)
            assert job is not None
            assert [(one.id, one.state) for one in await repository.ahead(session, job)] == [
                (first, "running"),
                (second, "queued"),
            ]

    run(story)


async def take_turns(session: TenantSession) -> None:
    """Wait for other writers; on SQLite there is one at a time anyway."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(1)"))


def test_many_workers_never_run_two_of_a_lane(run: Run) -> None:
    """Jobs come in meanwhile, under a lock, as those who change one thing hold one."""

    async def story(database: Database) -> None:
        order: list[str] = []
        at_work: set[str] = set()
        asked: list[str] = []

        async def ask(times: int) -> None:
            for _ in range(times):
                async with store_of(database).write() as session:
                    await take_turns(session)
                    id = (await queue.enqueue(session, "k", {}, lane="a")).id
                    asked.append(id)

        async def work() -> None:
            while len(order) < 6:
                job = await claim(database)
                if job is None:
                    await asyncio.sleep(0.002)
                    continue
                assert not at_work
                at_work.add(job.id)
                order.append(job.id)
                await asyncio.sleep(0.002)
                at_work.discard(job.id)
                await end(database, job)

        await asyncio.gather(ask(3), ask(3), *(work() for _ in range(3)))
        assert order == asked

    run(story)
