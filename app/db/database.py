"""Sessions of the database: one asyncio engine per process; readers and writers begin differently."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, overload

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from app.db.errors import database_errors
from app.db.writer_queue import WriterQueue

S = TypeVar("S", bound=AsyncSession)
BUSY_TIMEOUT_MS = 5_000
CONNECTIONS = 15
POOL_SECONDS = 5.0
"""Time that a request waits for a connection."""
_WRITES = "hyperserve_writes"
CHANGED = "changed"
"""Key in the `info` of a session whose transaction changes what other processes have in memory."""


class Database:
    """Sessions over one URL.

    On SQLite, write transactions queue up, and take the lock when they begin: an upgrade from reading to writing
    would fail at once, whatever the timeout. On PostgreSQL, statements and their answers have a deadline.
    """

    def __init__(self, url: str, connections: int = CONNECTIONS, *, patient: bool = False) -> None:
        """Open the database at a URL. If `patient`, statements may take as long as they need."""
        postgres = url.startswith("postgresql")
        options: dict[str, Any] = {}
        if postgres:
            # Imported here: a service on SQLite does without the driver.
            from app.db.postgres import connect_options, limit_statements

            options = connect_options(patient=patient)
        self.engine = create_async_engine(
            url,
            pool_size=min(5, connections),
            max_overflow=max(0, connections - 5),
            pool_timeout=POOL_SECONDS,
            pool_pre_ping=postgres,
            # Errors are logged, and values are labels and names.
            hide_parameters=True,
            connect_args=options,
        )
        if postgres and not patient:
            limit_statements(self.engine)
        self._writer: AsyncEngine = self.engine.execution_options(**{_WRITES: True})
        self._queue: WriterQueue | None = None
        if self.engine.dialect.name == "sqlite":
            self._queue = WriterQueue(self.engine.url.database or "")
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        self.on_change: Callable[[], None] = _ignore
        """Called after each commit that records a change (`app.db.invalidation_log`)."""

    @overload
    def read(self) -> AbstractAsyncContextManager[AsyncSession]: ...
    @overload
    def read(self, kind: type[S], info: dict[str, str]) -> AbstractAsyncContextManager[S]: ...
    @asynccontextmanager
    async def read(self, kind: Any = AsyncSession, info: dict[str, str] | None = None) -> AsyncIterator[Any]:
        """Open a session that sees the rows of every tenant; `app.db.tenancy.Store` opens those of one.

        Raises `DatabaseError`.
        """
        with database_errors():
            async with kind(self.engine, expire_on_commit=False, info=info) as session:
                yield session

    @overload
    def write(self) -> AbstractAsyncContextManager[AsyncSession]: ...
    @overload
    def write(self, kind: type[S], info: dict[str, str]) -> AbstractAsyncContextManager[S]: ...
    @asynccontextmanager
    async def write(self, kind: Any = AsyncSession, info: dict[str, str] | None = None) -> AsyncIterator[Any]:
        """Commit at the end, roll back on an exception. The session sees the rows of every tenant.

        Raises `DatabaseError`.
        """
        with database_errors():
            async with AsyncExitStack() as turn:
                if self._queue is not None:
                    await turn.enter_async_context(self._queue.turn())
                async with kind(self._writer, expire_on_commit=False, info=info) as session:
                    async with session.begin():
                        if self._queue is not None:
                            async with self._queue.next():
                                # Begins the transaction.
                                await session.connection()
                        yield session
                    if session.info.get(CHANGED):
                        self.on_change()

    async def close(self) -> None:
        await self.engine.dispose()
        if self._queue is not None:
            self._queue.close()


def _ignore() -> None:
    return


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver would begin transactions by itself, and too late; `_begin_sqlite` does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", f"busy_timeout = {BUSY_TIMEOUT_MS}", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
