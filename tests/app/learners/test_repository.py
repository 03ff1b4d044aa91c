"""Learners in the database."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from app.core.ids import new_id
from app.db.database import Database
from app.db.tables import LearnerRow
from app.learners import repository
from tests.app.stores import store_of

NAMES = ["a-c", "a1", "ab", "ab-1", "abc"]
ENGLISH = "SELECT collname FROM pg_collation WHERE collname IN ('en-x-icu', 'en_US.utf8', 'en_US') LIMIT 1"


async def pages(database: Database) -> list[str]:
    """All names, page after page."""
    seen: list[str] = []
    async with store_of(database).read() as session:
        while found := await repository.listed(session, seen[-1] if seen else None, 2):
            seen += [one.row.name for one in found]
    return seen


def test_pages_are_in_one_order_whatever_language_the_database_has(database_url: str) -> None:
    """English puts ab before a-c: pages that are cut by another order would lose learners."""

    async def test() -> None:
        database = Database(database_url)
        async with store_of(database).write() as session:
            if database.engine.dialect.name == "postgresql":
                if (english := await session.scalar(text(ENGLISH))) is None:
                    pytest.skip("this PostgreSQL knows no English")
                column = f'ALTER COLUMN name TYPE varchar(63) COLLATE "{english}"'
                await session.execute(text(f"ALTER TABLE learners {column}"))
            for name in reversed(NAMES):
                session.add(LearnerRow(id=new_id("lrn"), name=name, method="hyperset", status="training"))
        assert await pages(database) == NAMES
        await database.close()

    asyncio.run(test())
