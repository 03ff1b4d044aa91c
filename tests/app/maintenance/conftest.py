"""A service of its own for each test, once on SQLite and once on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.db.blobs import Blobs
from app.db.database import Database
from tests.app.maintenance.stock import fill

Test = Callable[[Database, Blobs], Awaitable[None]]


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Callable[[Test], None]:
    """With one of everything in it."""

    async def with_stores(test: Test) -> None:
        database, blobs = Database(database_url), Blobs.at(None, tmp_path / "data")
        try:
            await fill(database, blobs)
            await test(database, blobs)
        finally:
            await database.close()

    return lambda test: asyncio.run(with_stores(test))
