"""The lease table, on each database: who may claim, renew and publish, and when not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.database import Database
from app.db.invalidation_log import Change, record
from app.db.tables import ChangeRow, JobRow
from app.jobs import repository as queue
from tests.app.stores import store_of

Run = Callable[[Callable[[Database], Awaitable[None]]], None]
LONG, LAPSED = 60_000, -1


async def add(database: Database, count: int = 1, **how: object) -> list[str]:
    async with store_of(database).write() as session:
        return [(await queue.enqueue(session, "k", {"n": n}, **how)).id for n in range(count)]


async def claim(database: Database, lease_ms: int = LONG, owner: str = "w") -> JobRow | None:
    async with store_of(database).write() as session:
        return await queue.claim(session, owner, lease_ms)


async def claimed(database: Database, lease_ms: int = LONG) -> JobRow:
    job = await claim(database, lease_ms)
    assert job is not None
    return job


async def look(database: Database, id: str) -> JobRow:
    async with store_of(database).read() as session:
        job = await queue.get(session, id)
    assert job is not None
    return job


async def finish(database: Database, job: JobRow, **how: object) -> bool:
    async with store_of(database).write() as session:
        return await queue.finish(session, job.id, job.lease_token, "succeeded", **how)


def test_first_in_first_out_by_priority(run: Run) -> None:
    async def story(database: Database) -> None:
        low = await add(database, 2)
        high = await add(database, 2, priority=1)
        order = [(await claimed(database)).id for _ in range(4)]
        assert order == [*high, *low]
        assert await claim(database) is None

    run(story)


def test_claimed_by_one_only(run: Run) -> None:
    async def story(database: Database) -> None:
        ids = await add(database, 20)
        taken: list[str] = []

        async def worker(name: str) -> None:
            while (job := await claim(database, owner=name)) is not None:
                assert (job.state, job.lease_owner, job.attempt) == ("running", name, 1)
                taken.append(job.id)

        await asyncio.gather(*(worker(f"w{n}") for n in range(4)))
        assert sorted(taken) == sorted(ids)

    run(story)


def test_other_kinds_are_left_to_others(run: Run) -> None:
    async def story(database: Database) -> None:
        await add(database)
        async with store_of(database).write() as session:
            assert await queue.claim(session, "w", LONG, ["other"]) is None
            assert await queue.claim(session, "w", LONG, ["other", "k"]) is not None

    run(story)


def test_lapsed_lease_goes_to_another_worker(run: Run) -> None:
    """Its first owner can then neither renew, publish nor give it up."""

    async def story(database: Database) -> None:
        (id,) = await add(database)
        first = await claimed(database, LAPSED)
        token = first.lease_token
        async with store_of(database).read() as session:
            assert (await queue.signals(session, "w2", ["k"])).lapsed
        second = await claimed(database)
        assert (second.id, second.attempt) == (id, 2)
        assert second.lease_token > token
        async with store_of(database).write() as session:
            assert await queue.renew(session, id, token, LONG) is None
            assert not await queue.finish(session, id, token, "failed")
            assert await queue.release(session, id, token) is None
        assert (await look(database, id)).state == "running"
        assert await finish(database, second)

    run(story)


def test_poison_job_is_dead_after_its_last_attempt(run: Run) -> None:
    async def story(database: Database) -> None:
        (id,) = await add(database, max_attempts=2)
        assert (await claimed(database, LAPSED)).attempt == 1
        assert (await claimed(database, LAPSED)).attempt == 2
        assert await claim(database) is None
        job = await look(database, id)
        assert (job.state, job.error["code"], job.lease_owner) == ("dead", "worker_lost", None)
        assert job.finished_at is not None

    run(story)


@pytest.mark.parametrize("blame", [True, False])
def test_release(run: Run, blame: bool) -> None:
    """A killed child costs an attempt; an orderly stop of the worker does not."""

    async def story(database: Database) -> None:
        (id,) = await add(database, max_attempts=1)
        job = await claimed(database)
        async with store_of(database).write() as session:
            await queue.release(session, id, job.lease_token, blame=blame)
        released = await look(database, id)
        assert released.state == ("dead" if blame else "queued")
        assert released.max_attempts - released.attempt == (0 if blame else 1)
        if not blame:
            assert (await claimed(database)).attempt == 2

    run(story)


def test_renewal_sends_progress_and_hears_of_cancelling(run: Run) -> None:
    async def story(database: Database) -> None:
        (id,) = await add(database)
        job = await claimed(database, 1)
        token, sequence = job.lease_token, job.sequence
        async with store_of(database).write() as session:
            assert await queue.renew(session, id, token, LONG, {"step": 3}) == queue.Renewal(False)
        seen = await look(database, id)
        assert (seen.progress, seen.sequence) == ({"step": 3}, sequence + 1)
        async with store_of(database).write() as session:
            asked = await queue.request_cancel(session, id)
            assert asked is not None
            assert (asked.state, asked.cancel_requested) == ("running", True)
        async with store_of(database).read() as session:
            assert (await queue.signals(session, "w", ["k"])).cancelled == {id}
            assert (await queue.signals(session, "other", ["k"])).cancelled == frozenset()
        async with store_of(database).write() as session:
            assert await queue.renew(session, id, token, LONG) == queue.Renewal(True)

    run(story)


def test_cancel_of_a_job_that_nobody_runs_is_at_once(run: Run) -> None:
    async def story(database: Database) -> None:
        lost, waiting = await add(database, 2)
        token = (await claimed(database, LAPSED)).lease_token
        for id in (lost, waiting):
            async with store_of(database, "other tenant").write() as session:
                assert await queue.request_cancel(session, id) is None
            async with store_of(database).write() as session:
                job = await queue.request_cancel(session, id)
            assert job is not None
            assert job.state == "cancelled"
            assert job.finished_at is not None
            async with store_of(database).write() as session:
                assert await queue.request_cancel(session, id) is None
                assert not await queue.finish(session, id, token, "succeeded")
        assert await claim(database) is None

    run(story)


def test_lost_job_that_was_to_be_cancelled_is_not_run_again(run: Run) -> None:
    async def story(database: Database) -> None:
        (id,) = await add(database)
        await claimed(database, 300)
        async with store_of(database).write() as session:
            await queue.request_cancel(session, id)
        await asyncio.sleep(0.4)
        assert await claim(database) is None
        assert (await look(database, id)).state == "cancelled"

    run(story)


def test_effect_and_end_are_one_transaction(run: Run) -> None:
    async def effect(session: AsyncSession) -> None:
        await record(session, Change("t", "learner", "mine"))

    async def broken(session: AsyncSession) -> None:
        await effect(session)
        raise RuntimeError

    async def effects(database: Database) -> int:
        async with store_of(database).read() as session:
            query = select(func.count()).where(ChangeRow.kind == "learner").select_from(ChangeRow)
            return (await session.scalars(query)).one()

    async def story(database: Database) -> None:
        (id,) = await add(database)
        job = await claimed(database)
        with pytest.raises(RuntimeError):
            await finish(database, job, effect=broken)
        assert ((await look(database, id)).state, await effects(database)) == ("running", 0)
        assert await finish(database, job, effect=effect, result={"loss": None}, progress={"step": 9})
        assert not await finish(database, job, effect=effect)
        done = await look(database, id)
        assert (done.state, done.result, done.progress, done.error) == (
            "succeeded",
            {"loss": None},
            {"step": 9},
            None,
        )
        assert await effects(database) == 1
        async with store_of(database).read() as session:
            news = await session.scalars(select(ChangeRow.subject).where(ChangeRow.kind == "job"))
            assert list(news) == [id, id]

    run(story)


def test_pages(run: Run) -> None:
    async def story(database: Database) -> None:
        ids = await add(database, 3)
        first = (await claimed(database)).id
        async with store_of(database).read() as session:
            assert [job.id for job in await queue.page(session, None, 2)] == ids[:0:-1]
            assert [job.id for job in await queue.page(session, ids[1], 2)] == [ids[0]]
            assert [job.id for job in await queue.page(session, None, 9, state="running")] == [first]
            assert await queue.page(session, None, 9, kind="other") == []
        async with store_of(database, "other").read() as session:
            assert await queue.page(session, None, 9) == []
        async with database.read() as session:
            assert (await queue.sequences(session, ids))[first] == 2

    run(story)
