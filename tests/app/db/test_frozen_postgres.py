"""A PostgreSQL server that is stopped in the middle (SIGSTOP) keeps its connections open and never answers."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from sqlalchemy import text

from app.db.database import Database
from app.db.errors import DatabaseAwayError, DatabaseBusyError
from tests.app.problems import OK, create
from tests.app.server import Server
from tests.servers.postgres import Databases, Postgres


@contextmanager
def frozen(server: Postgres) -> Iterator[None]:
    """Stop every process of a server during the block."""
    parent = psutil.Process(server.process_id)
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)


async def execute(database: Database, *statements: str) -> None:
    async with database.write() as session:
        for statement in statements:
            await session.execute(text(statement))


def test_open_connections_fail_within_seconds_and_recover(own_postgres_server: Postgres) -> None:
    async def idle(database: Database) -> float:
        started = time.monotonic()
        with pytest.raises(DatabaseAwayError):
            await execute(database, "SELECT 1")
        return time.monotonic() - started

    async def in_transaction(database: Database, froze: asyncio.Event) -> float:
        async with database.write() as session:
            await session.execute(text("SELECT 1"))
            await froze.wait()
            started = time.monotonic()
            try:
                await session.execute(text("SELECT 1"))
            finally:
                waited = time.monotonic() - started
                assert waited < 6
        return waited

    async def run() -> None:
        database, froze = Database(own_postgres_server.url), asyncio.Event()
        writers = [asyncio.create_task(in_transaction(database, froze)) for _ in range(2)]
        await execute(database, "SELECT 1")
        with frozen(own_postgres_server):
            froze.set()
            waited = await asyncio.gather(*(idle(database) for _ in range(3)))
            assert max(waited) < 6
            failed = await asyncio.gather(*writers, return_exceptions=True)
            assert [type(error) for error in failed] == [DatabaseAwayError] * 2
        await execute(database, "SELECT 1")
        await database.close()

    asyncio.run(run())


def test_a_cancelled_statement_does_not_wait_for_the_server(own_postgres_server: Postgres) -> None:
    async def run() -> None:
        database = Database(own_postgres_server.url)
        await execute(database, "SELECT 1")
        with frozen(own_postgres_server):
            started = time.monotonic()
            with pytest.raises((TimeoutError, DatabaseAwayError)):
                async with asyncio.timeout(0.2):
                    await execute(database, "SELECT 1")
            assert time.monotonic() - started < 6
        await database.close()

    asyncio.run(run())


def test_a_slow_statement_is_busy_and_the_connection_stays(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.postgres.STATEMENT_SECONDS", 0.2)

    async def run() -> None:
        database = Database(databases.migrated())
        with pytest.raises(DatabaseBusyError):
            await execute(database, "SELECT pg_sleep(20)")
        await execute(database, "SELECT 1")
        await database.close()
        patient = Database(databases.migrated(), patient=True)
        await execute(patient, "SELECT pg_sleep(0.5)")
        await patient.close()

    asyncio.run(run())


@pytest.mark.timeout(120)
def test_a_service_says_so_within_seconds(own_server: Server, own_postgres_server: Postgres) -> None:
    databases = Databases(own_postgres_server.url)
    own_server.environment = {"HYPERSERVE_DATABASE_URL": databases.migrated()}
    own_server.start()
    client = own_server.client
    task = create(client, support={"a": OK, "b": [[9, 9]]}).json()["id"]
    with frozen(own_postgres_server):
        for method, path in (("GET", "/v1/tasks"), ("DELETE", f"/v1/tasks/{task}")):
            started = time.monotonic()
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert answer.headers["retry-after"]
            assert time.monotonic() - started < 6
        assert client.post(f"/v1/tasks/{task}/predict", json={"queries": OK}).status_code == 200
        assert client.get("/readyz").status_code == 503
    assert client.delete(f"/v1/tasks/{task}").status_code == 204
