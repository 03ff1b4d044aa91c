"""Naming blobs and deleting them never happen at the same time, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.db import blob_lock
from app.db.blob_lock import BlobLock
from app.db.database import Database
from app.db.errors import DatabaseBusyError


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[Database, BlobLock, BlobLock]]:
    """Yield the locks of two processes."""
    database = Database(url)
    try:
        yield database, BlobLock(database), BlobLock(database)
    finally:
        await database.close()


@asynccontextmanager
async def naming(database: Database, its: BlobLock) -> AsyncIterator[None]:
    async with its.shared(), database.write() as session:
        await its.lock(session, exclusive=False)
        yield


@asynccontextmanager
async def collecting(database: Database, its: BlobLock) -> AsyncIterator[None]:
    async with its.exclusive(), database.read() as session:
        await its.lock(session, exclusive=True)
        yield


def test_many_share_the_lock(database_url: str) -> None:
    async def test() -> None:
        async with (
            two(database_url) as (_, one, other),
            asyncio.timeout(2),
            one.shared(),
            one.shared(),
            other.shared(),
        ):
            pass

    asyncio.run(test())


@pytest.mark.parametrize("first", ["naming", "collecting"])
def test_naming_and_collecting_exclude_each_other(database_url: str, first: str) -> None:
    async def test() -> None:
        async with two(database_url) as (database, one, other):
            inside: list[str] = []

            async def enter(name: str, its: BlobLock) -> None:
                async with (naming if name == "naming" else collecting)(database, its):
                    inside.append(name)
                    assert len(inside) == 1
                    await asyncio.sleep(0.1)
                    inside.remove(name)

            second = "collecting" if first == "naming" else "naming"
            await asyncio.gather(enter(first, one), enter(second, other))

    asyncio.run(test())


def test_a_collector_gets_its_turn(tmp_path: object) -> None:
    """However many keep naming blobs in the same process."""

    async def test() -> None:
        async with two(f"sqlite+aiosqlite:///{tmp_path}/x.db") as (_, one, _other):

            async def keep_naming() -> None:
                while True:
                    async with one.shared():
                        await asyncio.sleep(0.01)

            busy = [asyncio.create_task(keep_naming()) for _ in range(4)]
            await asyncio.sleep(0.02)
            async with asyncio.timeout(2), one.exclusive():
                pass
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)

    asyncio.run(test())


def test_waiting_ends(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with two(f"sqlite+aiosqlite:///{tmp_path}/x.db") as (_, one, other), one.shared():
            with pytest.raises(DatabaseBusyError):
                async with other.exclusive():
                    raise AssertionError

    monkeypatch.setattr(blob_lock, "_WAIT_SECONDS", 0.1)
    asyncio.run(test())


def _hold(url: str, held: object) -> None:
    async def test() -> None:
        async with two(url) as (_, one, _other), one.exclusive():
            held.set()  # type: ignore[attr-defined]
            await asyncio.sleep(60)

    asyncio.run(test())


def test_a_killed_process_leaves_no_lock(tmp_path: object) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/x.db"
    spawn = multiprocessing.get_context("spawn")
    held = spawn.Event()
    process = spawn.Process(target=_hold, args=(url, held))
    process.start()
    assert held.wait(20)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    async def test() -> None:
        async with two(url) as (_, one, _other), asyncio.timeout(1), one.shared():
            pass

    asyncio.run(test())
