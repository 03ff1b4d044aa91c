"""A queue on each kind of database, for tests that are one coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.db.database import Database

Story = Callable[[Database], Awaitable[None]]


@pytest.fixture
def run(database_url: str) -> Callable[[Story], None]:
    async def with_database(story: Story) -> None:
        database = Database(database_url)
        try:
            await story(database)
        finally:
            await database.close()

    return lambda story: asyncio.run(with_database(story))
