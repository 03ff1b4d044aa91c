"""The lock of the blob store: naming blobs, and deleting blobs that no row names, exclude each other across processes.

On PostgreSQL it is an advisory lock of the transaction; on SQLite a lock of a file beside the database, so that its
one writer does not wait while blobs are read and written.
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
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.database import Database
from app.db.errors import DatabaseBusyError

_KEY = 0x68797065  # "hype": key of PostgreSQL's advisory lock
_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.002


class BlobLock:
    """Many may share the lock to name blobs; a collector has it alone. A killed process leaves no lock behind.

    Take it twice: around everything by `shared` or `exclusive`, and first in the transaction by `lock`. Either is the
    lock of one database and does nothing for the other.
    """

    def __init__(self, database: Database) -> None:
        url = database.engine.url
        self.by_file = url.get_backend_name() == "sqlite"
        """True if the lock is held by `shared` and `exclusive`, false if by `lock`."""
        self._file = Path(f"{url.database}.blobs")
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Hold the lock while blobs are written and rows that name them are committed. Raises `DatabaseBusyError`."""
        # A collector that waits goes first; otherwise it might wait for ever.
        async with self._turn:
            pass
        async with self._locked_file(fcntl.LOCK_SH):
            yield

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the lock while blobs without a row are looked for and deleted. Raises `DatabaseBusyError`."""
        async with self._turn, self._locked_file(fcntl.LOCK_EX):
            yield

    async def lock(self, session: AsyncSession, *, exclusive: bool) -> None:
        """Hold the lock until the transaction ends."""
        if not self.by_file:
            function = "pg_advisory_xact_lock" if exclusive else "pg_advisory_xact_lock_shared"
            await session.execute(text(f"SELECT {function}(:key)"), {"key": _KEY})

    @asynccontextmanager
    async def _locked_file(self, kind: int) -> AsyncIterator[None]:
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
                raise DatabaseBusyError("other processes read and write blobs") from None
        await asyncio.sleep(_POLL_SECONDS)
