"""Transactions: writers queue up, readers do not wait for them, and foreign keys hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from app.core.ids import new_id
from app.db.database import Database
from app.db.errors import DatabaseStatementError
from app.db.migrate import upgrade
from app.db.tables import TaskRow, VersionRow

Test = Callable[[Database], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Test], None]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    upgrade(url)

    async def with_database(test: Test) -> None:
        database = Database(url)
        try:
            await test(database)
        finally:
            await database.close()

    return lambda test: asyncio.run(with_database(test))


def task() -> TaskRow:
    return TaskRow(id=new_id("task"), tenant="t", name=None, current=1)


def test_pragmas(run: Callable[[Test], None]) -> None:
    async def test(database: Database) -> None:
        async with database.read() as session:
            for pragma, value in (("journal_mode", "wal"), ("busy_timeout", 5000), ("foreign_keys", 1)):
                assert (await session.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value

    run(test)


def test_concurrent_writers_that_read_first(run: Callable[[Test], None]) -> None:
    """Each reads and then writes: with a plain BEGIN all but one would fail at once."""

    async def write(database: Database) -> None:
        async with database.write() as session:
            await session.execute(select(TaskRow))
            await asyncio.sleep(0.01)
            session.add(task())

    async def test(database: Database) -> None:
        await asyncio.gather(*(write(database) for _ in range(12)))
        async with database.read() as session:
            assert len((await session.execute(select(TaskRow))).all()) == 12

    run(test)


def test_readers_do_not_wait_for_a_writer(run: Callable[[Test], None]) -> None:
    async def test(database: Database) -> None:
        async with database.write() as writer:
            writer.add(task())
            await writer.flush()
            async with asyncio.timeout(1), database.read() as reader:
                assert (await reader.execute(select(TaskRow))).all() == []

    run(test)


def test_exception_rolls_back(run: Callable[[Test], None]) -> None:
    async def fail(database: Database) -> None:
        async with database.write() as session:
            session.add(task())
            await session.flush()
            raise RuntimeError

    async def test(database: Database) -> None:
        with pytest.raises(RuntimeError):
            await fail(database)
        async with database.read() as session:
            assert (await session.execute(select(TaskRow))).all() == []

    run(test)


def test_foreign_keys_hold(run: Callable[[Test], None]) -> None:
    async def orphan(database: Database) -> None:
        async with database.write() as session:
            values = {
                "learner": "l",
                "learner_digest": "d",
                "seed": 1,
                "classes": [],
                "shots": [],
                "shape": [],
            }
            session.add(VersionRow(id=new_id("ver"), tenant="t", task_id="task_0", number=1, **values))

    async def test(database: Database) -> None:
        with pytest.raises(DatabaseStatementError) as caught:
            await orphan(database)
        assert isinstance(caught.value.__cause__, IntegrityError)

    run(test)


def test_times_are_aware(run: Callable[[Test], None]) -> None:
    async def test(database: Database) -> None:
        async with database.write() as session:
            session.add(task())
        async with database.read() as session:
            (found,) = await session.scalars(select(TaskRow))
            assert found.created_at.utcoffset() is not None

    run(test)


def test_errors_tell_no_values(run: Callable[[Test], None]) -> None:
    """They are logged, and values are labels and names."""

    async def test(database: Database) -> None:
        async def add() -> None:
            async with database.write() as session:
                session.add(TaskRow(id="task_1", tenant="t", name="my secret", current=1))

        await add()
        with pytest.raises(DatabaseStatementError) as caught:
            await add()
        assert "my secret" not in str(caught.value)
        assert "my secret" not in str(caught.value.__cause__)

    run(test)
