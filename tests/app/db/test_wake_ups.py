"""Processes wake each other through Redis; the content of its messages is not read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.db import redis as redis_module
from app.db import wake_ups
from app.db.database import Database
from app.db.invalidation_log import Change, ChangeWatcher, record
from app.db.redis import RedisConnection
from app.db.wake_ups import CHANNEL, WakeUps
from tests.servers.redis import Redis

CHANGE = Change("t", "task", "task_1")


class Process:
    """A process that polls only once in a while, so that whatever it receives soon it was woken for."""

    def __init__(self, url: str, redis_url: str, seconds: float) -> None:
        self.database = Database(url)
        self.watcher = ChangeWatcher(self.database, seconds)
        self.redis = RedisConnection(redis_url)
        self.wake_ups = WakeUps(redis_url, self.redis, self.watcher)
        self.database.on_change = self.wake_ups.notify
        self.received = 0
        self.watcher.subscribe(self.take)

    async def take(self, changes: object) -> None:
        assert isinstance(changes, tuple)
        self.received += len(changes)

    async def say(self) -> None:
        async with self.database.write() as session:
            await record(session, CHANGE)

    async def receives(self, count: int, seconds: float) -> None:
        started = time.monotonic()
        while self.received < count:
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
            await process.redis.close()
            await process.database.close()


def test_a_commit_wakes_both(database_url: str, redis_url: str) -> None:
    async def test() -> None:
        async with processes(database_url, redis_url) as (one, other):
            for count in range(1, 4):
                await one.say()
                await other.receives(count, 2)
                await one.receives(count, 2)

    asyncio.run(test())


def test_what_anybody_publishes_is_no_change(database_url: str, redis_url: str) -> None:
    async def test() -> None:
        async with processes(database_url, redis_url) as (one, other):
            for content in (b"", b"\xff" * 10_000, b'{"kind": "purge", "subject": "task_1"}'):
                await one.redis.send("PUBLISH", CHANNEL, content)
            await asyncio.sleep(0.2)
            assert one.received == other.received == 0
            await other.say()
            await one.receives(1, 2)

    asyncio.run(test())


def test_with_redis_away_changes_come_all_the_same_and_wake_ups_when_it_is_back(
    database_url: str, own_redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(wake_ups, "RETRY_SECONDS", 0.05)

    async def test() -> None:
        async with processes(database_url, own_redis_server.url, seconds=0.5) as (one, other):
            own_redis_server.stop()
            await one.say()
            await other.receives(1, 3)
            own_redis_server.start()
            await asyncio.sleep(0.5)
            other.watcher.seconds = one.watcher.seconds = 30
            await asyncio.sleep(0.6)
            await one.say()
            await other.receives(2, 2)

    asyncio.run(test())
