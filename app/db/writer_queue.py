"""The queue of SQLite's writers: they take turns in the order of their coming, also across processes.

SQLite itself lets waiting writers poll, so that one of many may wait for seconds and be refused while others pass it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.core.errors import OUT_OF_FILES
from app.db.errors import DatabaseAwayError, DatabaseBusyError
from app.db.free_space import SpareRoom

WAIT_SECONDS = 5.0
"""Time that a writer waits for its turn."""
_POLL_SECONDS = 0.002


class WriterQueue:
    """A place for the writers of one `Database`: one writes, and across all processes one is next.

    Whoever is next holds the lock of a file until its transaction has begun. So a process with many writers cannot
    begin again and again before another process, which waits for SQLite's lock, has had its turn.
    """

    def __init__(self, database: str) -> None:
        """Queue for the database in a file, or in memory if the name is empty."""
        memory = database in ("", ":memory:")
        self._file = None if memory else Path(f"{database}.writers")
        self._spare = None if memory else SpareRoom(Path(database))
        self._turn = asyncio.Lock()
        self._descriptor: int | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the turn of this process during the block. Raises `DatabaseBusyError`."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise DatabaseBusyError("too many transactions wait to write") from None
        try:
            yield
        finally:
            self._turn.release()

    @asynccontextmanager
    async def next(self) -> AsyncIterator[None]:
        """Be the next writer of all processes during the block, which begins a transaction in its turn.

        Raises `DatabaseBusyError`, `DatabaseAwayError`.
        """
        if self._file is None:
            yield
            return
        descriptor = self._open(self._file)
        await _lock(descriptor)
        try:
            if self._spare is not None:
                self._spare.adjust()
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self, file: Path) -> int:
        # Kept open: a process without free descriptors can go on writing.
        if self._descriptor is None:
            try:
                self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError as error:
                kind = DatabaseBusyError if error.errno in OUT_OF_FILES else DatabaseAwayError
                raise kind(f"{file.name}: {error.strerror}") from error
        return self._descriptor


async def _lock(descriptor: int) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise DatabaseBusyError("writers of other processes wait to write") from None
        await asyncio.sleep(_POLL_SECONDS)
