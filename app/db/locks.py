"""Beginning to name blobs and deleting blobs that nobody names exclude each other, across processes.

On PostgreSQL by an advisory lock of the transaction; on SQLite by a lock of a file beside the database, so that
its one writer is not kept waiting while blobs are read and written.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as NoTurnError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.database import Database

FILES = 0x66696C65  # "file": PostgreSQL's advisory lock of datasets and learners in the blob store


async def lock(session: AsyncSession, key: int) -> None:
    """Of a session of `Database.write`. On SQLite every writer is alone, from its first statement on: this is it."""
    await session.connection()
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


_KEY = 0x68797065  # "hype": PostgreSQL's advisory lock of the blobs
_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.002


class Holds:
    """Many may add names at a time; whoever deletes is alone. A killed process leaves no lock behind."""

    def __init__(self, database: Database) -> None:
        url = database.engine.url
        self.by_file = url.get_backend_name() == "sqlite"
        self._file = Path(f"{url.database}.blobs")
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def adding(self) -> AsyncIterator[None]:
        """Around writing blobs and committing rows that name them. Raises SQLAlchemy's `TimeoutError`."""
        # Who deletes and waits goes first; otherwise it might wait for ever.
        async with self._turn:
            pass
        async with self._locked(fcntl.LOCK_SH):
            yield

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Around looking for names and deleting blobs without any. Raises SQLAlchemy's `TimeoutError`."""
        async with self._turn, self._locked(fcntl.LOCK_EX):
            yield

    async def lock(self, session: AsyncSession, *, adding: bool) -> None:
        """The same until the end of a transaction, where the database has such locks."""
        if not self.by_file:
            kind = "pg_advisory_xact_lock_shared" if adding else "pg_advisory_xact_lock"
            await session.execute(text(f"SELECT {kind}(:key)"), {"key": _KEY})

    @asynccontextmanager
    async def _locked(self, kind: int) -> AsyncIterator[None]:
        if not self.by_file:
            yield
            return
        file = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            await _wait(file, kind)
            yield
        finally:
            os.close(file)


async def _wait(file: int, kind: int) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise NoTurnError("others read and write blobs") from None
        await asyncio.sleep(_POLL_SECONDS)
