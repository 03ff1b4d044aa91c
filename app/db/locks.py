"""Locks that several processes share, held until the end of a transaction."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

FILES = 0x66696C65  # "file": PostgreSQL's advisory lock of datasets and learners in the blob store


async def lock(session: AsyncSession, key: int) -> None:
    """Of a session of `Database.write`. On SQLite every writer is alone, from its first statement on: this is it."""
    await session.connection()
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
