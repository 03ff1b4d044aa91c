"""Processes wake each other through Redis; nobody believes what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.db import redis as link_module
from app.db import wakeups
from app.db.engine import Database
from app.db.invalidation_log import Change, Watcher, record
from app.db.redis import Link
from app.db.wakeups import CHANNEL, WakeUps
from tests.servers.redis import Redis

NEWS = Change("t", "task", "task_1")


class Process:
    """It looks for news by itself only once in a while, so that what it hears soon it was woken for."""

    def __init__(self, url: str, redis_url: str, seconds: float) -> None:
        self.database = Database(url)
        self.watcher = Watcher(self.database, seconds)
        self.link = Link(redis_url)
        self.wake_ups = WakeUps(redis_url, self.link, self.watcher)
        self.database.on_news = self.wake_ups.tell
        self.heard = 0
        self.watcher.listen(self.take)

    async def take(self, news: object) -> None:
        assert isinstance(news, tuple)
        self.heard += len(news)

    async def say(self) -> None:
        async with self.database.write() as session:
            await record(session, NEWS)

    async def hears(self, count: int, seconds: float) -> None:
        started = time.monotonic()
        while self.heard < count:
            assert time.monotonic() - started < seconds
            await asyncio.sleep(0.01)


@asynccontextmanager
async def processes(url: str, redis_url: str, seconds: float = 30) -> AsyncIterator[tuple[Process, Process]]:
    both = Process(url, redis_url, seconds), Process(url, redis_url, seconds)
    tasks = []
    for process in both:
        await process.watcher.begin()
        tasks += [asyncio.create_task(work.run()) for work in (process.watcher, process.wake_ups)]
    await asyncio.sleep(0.3)
    try:
        yield both
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in both:
            await process.link.close()
            await process.database.close()


def test_a_commit_wakes_both(database_url: str, redis_url: str) -> None:
    async def test() -> None:
        async with processes(database_url, redis_url) as (one, other):
            for count in range(1, 4):
                await one.say()
                await other.hears(count, 2)
                await one.hears(count, 2)

    asyncio.run(test())


def test_what_anybody_publishes_is_no_news(database_url: str, redis_url: str) -> None:
    async def test() -> None:
        async with processes(database_url, redis_url) as (one, other):
            for content in (b"", b"\xff" * 10_000, b'{"kind": "purge", "subject": "task_1"}'):
                await one.link.send("PUBLISH", CHANNEL, content)
            await asyncio.sleep(0.2)
            assert one.heard == other.heard == 0
            await other.say()
            await one.hears(1, 2)

    asyncio.run(test())


def test_with_redis_away_news_come_all_the_same_and_wake_ups_when_it_is_back(
    database_url: str, own_redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(wakeups, "RETRY_SECONDS", 0.05)

    async def test() -> None:
        async with processes(database_url, own_redis_server.url, seconds=0.5) as (one, other):
            own_redis_server.stop()
            await one.say()
            await other.hears(1, 3)
            own_redis_server.start()
            await asyncio.sleep(0.5)
            other.watcher.seconds = one.watcher.seconds = 30
            await asyncio.sleep(0.6)
            await one.say()
            await other.hears(2, 2)

    asyncio.run(test())
