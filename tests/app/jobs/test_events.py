"""Following jobs within one process: woken by news, else by looking; ended with the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from app.db.database import Database
from app.db.invalidation_log import EVERYTHING, Change, ChangeWatcher, UndeliveredError, record
from app.db.tenancy import TenantSession
from app.http.problems import ProblemError
from app.jobs import events, repository
from app.jobs.events import Followers
from app.jobs.schemas import JobsOptions
from app.jobs.service import JobService
from hyperserve.types import Job
from tests.app.stores import store_of

Run = Callable[[Callable[[Database], Awaitable[None]]], None]


async def enqueue(database: Database) -> str:
    async with store_of(database).write() as session:
        return (await repository.enqueue(session, "k", {})).id


async def cancel(database: Database, id: str) -> None:
    async with store_of(database).write() as session:
        await repository.request_cancel(session, id)


async def succeed(database: Database, *changes: Change) -> str:
    """Publish a job with what it changes, as a worker does."""
    id = await enqueue(database)

    async def effect(session: TenantSession) -> None:
        await record(session, *changes)

    async with database.write() as session:
        claimed = await repository.claim(session, "w", 60_000)
        assert claimed is not None
    async with store_of(database).write() as session:
        assert await repository.finish(session, id, claimed.lease_token, "succeeded", effect=effect)
    return id


def service_of(database: Database, followers: Followers, watcher: ChangeWatcher | None = None) -> JobService:
    return JobService(followers, watcher or ChangeWatcher(database), store_of(database))


def follow(
    database: Database, followers: Followers, id: str, watcher: ChangeWatcher | None = None
) -> asyncio.Task[list[Job]]:
    async def collect() -> list[Job]:
        return [state async for _, state in service_of(database, followers, watcher).follow(id, None)]

    return asyncio.create_task(collect())


@pytest.mark.parametrize("kind", ["job", EVERYTHING])
def test_news_wake_a_stream(run: Run, kind: str) -> None:
    """At once: here nobody looks."""

    async def story(database: Database) -> None:
        id = await enqueue(database)
        followers = Followers(database)
        stream = follow(database, followers, id)
        await asyncio.sleep(0.1)
        await cancel(database, id)
        await followers([Change("t", "job", "another")])
        await asyncio.sleep(0.1)
        assert not stream.done()
        await followers([Change("t", kind, id)])
        assert [job.state for job in await asyncio.wait_for(stream, 5)] == ["queued", "cancelled"]

    run(story)


def test_looking_finds_what_no_news_told(run: Run) -> None:
    """For all streams together, and again when somebody comes after a while without any."""

    async def story(database: Database) -> None:
        followers = Followers(database, seconds=0.05)
        looking = asyncio.create_task(followers.run())
        for _ in range(2):
            id = await enqueue(database)
            streams = [follow(database, followers, id) for _ in range(3)]
            await asyncio.sleep(0.1)
            await cancel(database, id)
            for states in await asyncio.wait_for(asyncio.gather(*streams), 5):
                assert [job.state for job in states] == ["queued", "cancelled"]
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    run(story)


def test_streams_end_when_the_server_does(run: Run) -> None:
    async def story(database: Database) -> None:
        followers = Followers(database)
        stream = follow(database, followers, await enqueue(database))
        await asyncio.sleep(0.1)
        followers.close()
        assert [job.state for job in await asyncio.wait_for(stream, 5)] == ["queued"]

    run(story)


def test_too_many_streams(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(database: Database) -> None:
        id = await enqueue(database)
        followers = Followers(database)
        service = service_of(database, followers)
        assert (await service.check_followable(id)).id == id
        monkeypatch.setattr(events, "STREAMS_MAX", 1)
        with followers.follow(id, 0):
            with pytest.raises(ProblemError) as refused:
                await service.check_followable(id)
            assert (refused.value.code, refused.value.headers) == ("busy", {"Retry-After": "5"})
        assert (await service.check_followable(id)).id == id

    run(story)


def test_what_is_no_id_is_unknown(run: Run) -> None:
    """PostgreSQL takes no NUL in a text."""

    async def story(database: Database) -> None:
        service = service_of(database, Followers(database))
        for call in (service.get, service.cancel, service.check_followable):
            with pytest.raises(ProblemError, match="job_not_found"):
                await call("job_\0")

    run(story)


@pytest.mark.parametrize("heard", ["get", "page", "events"])
def test_success_is_told_after_its_changes_are_applied(run: Run, heard: str) -> None:
    """Though nothing reads changes meanwhile."""

    async def story(database: Database) -> None:
        applied: list[Change] = []

        async def listener(changes: Sequence[Change]) -> None:
            await asyncio.sleep(0.05)
            applied.extend(change for change in changes if change.kind == "stream")

        watcher, followers = ChangeWatcher(database), Followers(database)
        watcher.subscribe(listener)
        await watcher.begin()
        service = service_of(database, followers, watcher)
        change = Change("t", "stream", "points", ("2",))
        id = await succeed(database, change)
        if heard == "get":
            assert (await service.get(id)).state == "succeeded"
        elif heard == "page":
            assert [job.state for job in (await service.page(JobsOptions())).items] == ["succeeded"]
        else:
            assert [job.state for job in await follow(database, followers, id, watcher)] == ["succeeded"]
        assert applied == [change]

    run(story)


def test_success_is_not_told_while_its_changes_cannot_be_applied(run: Run) -> None:
    async def story(database: Database) -> None:
        broken = True

        async def listener(_changes: Sequence[Change]) -> None:
            if broken:
                raise OSError

        watcher, followers = ChangeWatcher(database), Followers(database, seconds=0.05)
        watcher.subscribe(listener)
        await watcher.begin()
        looking = asyncio.create_task(followers.run())
        id = await succeed(database)
        with pytest.raises(UndeliveredError):
            await service_of(database, followers, watcher).get(id)
        stream = follow(database, followers, id, watcher)
        await asyncio.sleep(0.2)
        assert not stream.done()
        broken = False
        assert [job.state for job in await asyncio.wait_for(stream, 5)] == ["succeeded"]
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    run(story)
