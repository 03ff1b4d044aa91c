"""A database that is away is distinguished from one that is busy, and neither is waited for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from app.db.database import Database
from app.db.errors import DatabaseAwayError, DatabaseBusyError, DatabaseError, DatabaseStatementError
from tests.app.server import free_port
from tests.servers.postgres import Databases

LOCK = "LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"


async def failure(work: Callable[[], Awaitable[object]]) -> type[DatabaseError]:
    with pytest.raises(DatabaseError) as raised:
        await work()
    return type(raised.value)


async def ask(database: Database, *statements: str) -> None:
    async with database.write() as session:
        for statement in statements:
            await session.execute(text(statement))


@pytest.mark.parametrize("port", ["closed", "silent"])
def test_a_server_that_is_not_there_is_away(port: str) -> None:
    """Refused at once, or by the time that a connection may take."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        number = server.sockets[0].getsockname()[1] if port == "silent" else free_port()
        database = Database(f"postgresql+psycopg://nobody@127.0.0.1:{number}/nothing")
        started = time.monotonic()
        assert await failure(lambda: ask(database, "SELECT 1")) is DatabaseAwayError
        assert time.monotonic() - started < 4
        server.close()
        await database.close()

    asyncio.run(test())


def test_a_connection_that_is_cut_is_away_and_the_next_is_good(databases: Databases) -> None:
    async def test() -> None:
        database, other = Database(databases.migrated()), Database(databases.url)
        name = database.engine.url.database
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"

        async def cut_in_the_middle() -> None:
            async with database.write() as session:
                await session.execute(text("SELECT 1"))
                await ask(other, cut)
                await session.execute(text("SELECT 1"))

        assert await failure(cut_in_the_middle) is DatabaseAwayError
        await ask(database, "SELECT 1")
        await ask(other, cut)
        await ask(database, "SELECT 1")
        for one in (database, other):
            await one.close()

    asyncio.run(test())


def test_locks_are_busy(databases: Databases) -> None:
    async def test() -> None:
        database = Database(databases.migrated())
        async with database.write() as holder:
            await holder.execute(text(LOCK))
            for limit in ("lock_timeout", "statement_timeout"):
                statements = f"SET LOCAL {limit} = '50ms'", "SELECT * FROM tasks"
                assert (
                    await failure(lambda statements=statements: ask(database, *statements))
                    is DatabaseBusyError
                )
        await database.close()

    asyncio.run(test())


def test_no_connection_left_is_busy(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.database.POOL_SECONDS", 0.1)

    async def test() -> None:
        database = Database(databases.migrated(), connections=1)
        async with database.write() as holder:
            await holder.execute(text("SELECT 1"))
            assert await failure(lambda: ask(database, "SELECT 1")) is DatabaseBusyError
        await database.close()

    asyncio.run(test())


def test_a_locked_file_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.database.BUSY_TIMEOUT_MS", 50)

    async def test() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
        async with database.write() as holder:
            await holder.execute(text("SELECT 1"))
            assert await failure(lambda: ask(database, "SELECT 1")) is DatabaseBusyError
        await database.close()

    asyncio.run(test())


def test_a_table_that_is_not_there_is_neither(tmp_path: Path) -> None:
    """SQLite raises of it what it raises of a file that cannot be read; no waiting brings the table."""

    async def test() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
        assert await failure(lambda: ask(database, "SELECT * FROM nothing")) is DatabaseStatementError
        away = Database(f"sqlite+aiosqlite:///{tmp_path / 'nowhere' / 'x.db'}")
        assert await failure(lambda: ask(away, "SELECT 1")) is DatabaseAwayError
        for one in (database, away):
            await one.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("statement", "error"),
    [("SELECT * FROM nothing", ProgrammingError), ("INSERT INTO tasks (id) VALUES ('x')", IntegrityError)],
)
def test_our_own_mistakes_are_neither(databases: Databases, statement: str, error: type[Exception]) -> None:
    async def test() -> None:
        database = Database(databases.migrated())
        with pytest.raises(DatabaseStatementError) as raised:
            await ask(database, statement)
        assert isinstance(raised.value.__cause__, error)
        await database.close()

    asyncio.run(test())
