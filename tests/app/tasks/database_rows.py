"""What the database of a server holds, read beside it."""

from __future__ import annotations

import sqlite3

from sqlalchemy import create_engine, text

from app.core.settings import Settings
from app.db.migrate import sync_url
from tests.app.server import Server


def database(server: Server) -> sqlite3.Connection:
    return sqlite3.connect(server.data_dir / "hyperserve.db", isolation_level=None)


def rows(server: Server) -> dict[str, int]:
    url = server.environment.get("HYPERSERVE_DATABASE_URL")
    engine = create_engine(sync_url(Settings(data_dir=server.data_dir, database_url=url).database))
    tables = ("tasks", "versions", "examples", "version_examples")
    with engine.connect() as connection:
        counts = {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables
        }
    engine.dispose()
    return counts


def assert_empty(server: Server) -> None:
    assert (server.blobs(), server.features()) == ([], [])
    assert set(rows(server).values()) == {0}
