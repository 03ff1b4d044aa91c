"""Who names blobs and who deletes them are never at it together, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.exc import TimeoutError as NoTurnError

from app.db import locks
from app.db.database import Database
from app.db.locks import Holds


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[Database, Holds, Holds]]:
    """As of two processes."""
    database = Database(url)
    try:
        yield database, Holds(database), Holds(database)
    finally:
        await database.close()


@asynccontextmanager
async def adding(database: Database, its: Holds) -> AsyncIterator[None]:
    async with its.adding(), database.write() as session:
        await its.lock(session, adding=True)
        yield


@asynccontextmanager
async def alone(database: Database, its: Holds) -> AsyncIterator[None]:
    async with its.alone(), database.read() as session:
        await its.lock(session, adding=False)
        yield


def test_many_add_at_a_time(database_url: str) -> None:
    async def test() -> None:
        async with (
            two(database_url) as (_, one, other),
            asyncio.timeout(2),
            one.adding(),
            one.adding(),
            other.adding(),
        ):
            pass

    asyncio.run(test())


@pytest.mark.parametrize("first", ["adding", "alone"])
def test_adding_and_deleting_exclude_each_other(database_url: str, first: str) -> None:
    async def test() -> None:
        async with two(database_url) as (database, one, other):
            inside: list[str] = []

            async def enter(name: str, its: Holds) -> None:
                async with (adding if name == "adding" else alone)(database, its):
                    inside.append(name)
                    assert len(inside) == 1
                    await asyncio.sleep(0.1)
                    inside.remove(name)

            second = "alone" if first == "adding" else "adding"
            await asyncio.gather(enter(first, one), enter(second, other))

    asyncio.run(test())


def test_deleting_gets_its_turn(tmp_path: object) -> None:
    """However many keep adding in the same process."""

    async def test() -> None:
        async with two(f"sqlite+aiosqlite:///{tmp_path}/x.db") as (_, one, _other):

            async def keep_adding() -> None:
                while True:
                    async with one.adding():
                        await asyncio.sleep(0.01)

            busy = [asyncio.create_task(keep_adding()) for _ in range(4)]
            await asyncio.sleep(0.02)
            async with asyncio.timeout(2), one.alone():
                pass
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)

    asyncio.run(test())


def test_waiting_ends(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with two(f"sqlite+aiosqlite:///{tmp_path}/x.db") as (_, one, other), one.adding():
            with pytest.raises(NoTurnError):
                async with other.alone():
                    raise AssertionError

    monkeypatch.setattr(locks, "_WAIT_SECONDS", 0.1)
    asyncio.run(test())


def _hold(url: str, held: object) -> None:
    async def test() -> None:
        async with two(url) as (_, one, _other), one.alone():
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
        async with two(url) as (_, one, _other), asyncio.timeout(1), one.adding():
            pass

    asyncio.run(test())
