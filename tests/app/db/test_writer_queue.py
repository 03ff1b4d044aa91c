"""Writers of SQLite take turns: none is refused however many there are, in one process or in several."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from app.core.ids import new_id
from app.db.database import Database
from app.db.errors import DatabaseBusyError
from app.db.tables import TaskRow
from app.db.writer_queue import WriterQueue

WRITERS, TURNS = 16, 10


def url_of(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


async def write(database: Database, seconds: float = 0.0) -> None:
    async with database.write() as session:
        session.add(TaskRow(id=new_id("task"), tenant="t", name=None, current=1))
        await session.flush()
        await asyncio.sleep(seconds)


async def count(database: Database) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(TaskRow)) or 0


def write_much(url: str, waits: list[float] | None = None) -> None:
    """Write from many clients at once, as a serving process does."""

    async def client(database: Database) -> None:
        for _ in range(TURNS):
            started = time.monotonic()
            await write(database, 0.001)
            if waits is not None:
                waits.append(time.monotonic() - started)

    async def run() -> None:
        database = Database(url)
        await asyncio.gather(*(client(database) for _ in range(WRITERS)))
        await database.close()

    asyncio.run(run())


def test_many_writers_of_two_processes_are_all_served(empty_database: Path, tmp_path: Path) -> None:
    url = url_of(tmp_path / "x.db")
    (tmp_path / "x.db").write_bytes(empty_database.read_bytes())
    other = multiprocessing.get_context("spawn").Process(target=write_much, args=(url,))
    other.start()
    write_much(url)
    other.join(60)
    assert other.exitcode == 0
    database = Database(url)
    assert asyncio.run(count(database)) == 2 * WRITERS * TURNS


def test_writers_are_served_in_order(empty_database: Path, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(empty_database.read_bytes())
    served: list[int] = []

    async def one(database: Database, number: int) -> None:
        async with database.write() as session:
            await session.execute(text("SELECT 1"))
            served.append(number)

    async def run() -> None:
        database = Database(url_of(tmp_path / "x.db"))
        await asyncio.gather(*(one(database, number) for number in range(40)))
        await database.close()

    asyncio.run(run())
    assert served == list(range(40))


def test_waiting_writers_take_no_connections_from_readers(empty_database: Path, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(empty_database.read_bytes())

    async def run() -> None:
        database = Database(url_of(tmp_path / "x.db"), connections=2)
        writers = [asyncio.create_task(write(database, 0.05)) for _ in range(10)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(0.4):
            await count(database)
        await asyncio.gather(*writers)
        assert await count(database) == 10
        await database.close()

    asyncio.run(run())


def test_a_writer_that_waits_too_long_is_busy(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its own process writes or another one is next; the queue goes on afterwards."""
    monkeypatch.setattr("app.db.writer_queue.WAIT_SECONDS", 0.05)
    (tmp_path / "x.db").write_bytes(empty_database.read_bytes())

    async def run() -> None:
        database = Database(url_of(tmp_path / "x.db"))
        async with database.write():
            with pytest.raises(DatabaseBusyError):
                await write(database)
        other = WriterQueue(str(tmp_path / "x.db"))
        async with other.next():
            with pytest.raises(DatabaseBusyError):
                await write(database)
        other.close()
        await write(database)
        assert await count(database) == 1
        await database.close()

    asyncio.run(run())


def test_a_cancelled_writer_leaves_the_queue(empty_database: Path, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(empty_database.read_bytes())

    async def run() -> None:
        database = Database(url_of(tmp_path / "x.db"))
        first = asyncio.create_task(write(database, 30))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(write(database))
        third = asyncio.create_task(write(database))
        await asyncio.sleep(0.01)
        second.cancel()
        first.cancel()
        await asyncio.wait_for(third, 5)
        assert await count(database) == 1
        await database.close()

    asyncio.run(run())


def test_a_foreign_writer_is_waited_for_by_sqlite(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as `sqlite3` in the hands of an operator, which knows no queue."""
    monkeypatch.setattr("app.db.database.BUSY_TIMEOUT_MS", 50)
    (tmp_path / "x.db").write_bytes(empty_database.read_bytes())
    foreign = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")

    async def run() -> None:
        database = Database(url_of(tmp_path / "x.db"))
        with pytest.raises(DatabaseBusyError):
            await write(database)
        foreign.execute("COMMIT")
        await write(database)
        await database.close()

    asyncio.run(run())
    foreign.close()
