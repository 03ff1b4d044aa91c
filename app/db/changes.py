"""News between processes: who changes a row that others keep in memory says so in the same transaction.

Every process reads what is new about once a second, and at once when it is woken. A change becomes visible
when its transaction commits, which may be after a later one did: each reading looks a few seconds back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.clock import now_ms
from app.db.engine import Database
from app.db.tables import ChangeRow
from app.ids import new_id

POLL_SECONDS = 1.0
LOOK_BACK_MS = 10_000
"""How late a change may become visible. `record` comes last in its transaction, so it is far less."""

log = logging.getLogger("hyperserve")


@dataclass(frozen=True)
class Change:
    """`kind` is task (created anew, promoted, renamed), purge (a task is gone), learner or job."""

    tenant: str
    kind: str
    subject: str
    """Id of the task or job, name of the learner."""
    detail: tuple[str, ...] = ()
    """Of a purge, the ids of the versions that are gone."""


async def record(session: AsyncSession, *changes: Change) -> None:
    """To be called last in the transaction that makes the change."""
    for change in changes:
        row = vars(change) | {"id": new_id("chg"), "at": now_ms(), "detail": list(change.detail)}
        await session.execute(insert(ChangeRow).values(row))


async def forget(session: AsyncSession, older_than_ms: int) -> None:
    """Drops news that every process has read long ago."""
    await session.execute(delete(ChangeRow).where(ChangeRow.at < now_ms() - older_than_ms))


Listener = Callable[[Sequence[Change]], Awaitable[None]]


@dataclass
class Watcher:
    """Reads news for one process, this process's own included, and hands them to its listeners in order."""

    database: Database
    seconds: float = POLL_SECONDS
    _listeners: list[Listener] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    """Id of a change to its time, as far back as is looked."""
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def wake(self) -> None:
        """There may be news: read them now."""
        self._woken.set()

    async def begin(self) -> None:
        """From here on; what was before is old. To be called before anything is kept in memory."""
        await self._read()

    async def run(self) -> None:
        """Until cancelled. While the database is away nothing is new; afterwards all of it comes."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self.seconds)
            self._woken.clear()
            try:
                news = await self._read()
            except (SQLAlchemyError, OSError) as error:
                log.warning("news were not read: %s", getattr(error, "orig", error))
                continue
            for listener in self._listeners if news else ():
                await listener(news)

    async def _read(self) -> list[Change]:
        # From the newest that was seen, so that nothing is missed however long the database was away.
        newest = max(self._seen.values(), default=None)
        since = now_ms() - LOOK_BACK_MS if newest is None else newest - LOOK_BACK_MS
        async with self.database.read() as session:
            rows = list(
                await session.scalars(select(ChangeRow).where(ChangeRow.at >= since).order_by(ChangeRow.at))
            )
        fresh = [row for row in rows if row.id not in self._seen]
        self._seen |= {row.id: row.at for row in fresh}
        floor = max(self._seen.values(), default=0) - LOOK_BACK_MS
        self._seen = {id: at for id, at in self._seen.items() if at >= floor}
        return [Change(row.tenant, row.kind, row.subject, tuple(row.detail)) for row in fresh]
