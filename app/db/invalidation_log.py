"""News between processes: who changes a row that others keep in memory says so in the same transaction.

Every process reads what is new about once a second, and at once when it is woken. A change becomes visible
when its transaction commits, which may be after a later one did: each reading looks a few seconds back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import new_id
from app.db.clock import now_ms
from app.db.engine import NEWS, Database
from app.db.failures import busy
from app.db.tables import ChangeRow

POLL_SECONDS = 1.0
LOOK_BACK_MS = 10_000
"""How late a change may become visible. `record` comes last in its transaction, so it is far less."""
KEPT_MS = 3_600_000
"""How long news are kept. A process that could not read them for longer may have missed any."""
EVERYTHING = "everything"
"""Kind of the change that a process is told of then: whatever it keeps may be out of date."""
WAKE_SECONDS = 0.02
"""The least time between two readings."""
SILENT_SECONDS = 5.0
"""How long a reading may take before the database counts as away."""

log = logging.getLogger("hyperserve")


@dataclass(frozen=True)
class Change:
    """`kind` is task (promoted, renamed), purge (a task is gone), learner, stream, job, or everything."""

    tenant: str
    kind: str
    subject: str
    """Id of the task or job, name of the learner or stream."""
    detail: tuple[str, ...] = ()
    """Of a purge, the ids of the versions that are gone; of a stream, see `app.streams.cache`."""


async def record(session: AsyncSession, *changes: Change) -> None:
    """To be called last in the transaction that makes the change, a session of `Database.write`."""
    session.info[NEWS] = True
    for change in changes:
        row = vars(change) | {"id": new_id("chg"), "at": now_ms(), "detail": list(change.detail)}
        await session.execute(insert(ChangeRow).values(row))


async def forget(session: AsyncSession, older_than_ms: int) -> None:
    """Drops news that every process has read long ago."""
    await session.execute(delete(ChangeRow).where(ChangeRow.at < now_ms() - older_than_ms))


Listener = Callable[[Sequence[Change]], Awaitable[None]]


@dataclass
class _Inbox:
    listener: Listener
    news: list[Change] = field(default_factory=list)


@dataclass
class Watcher:
    """Reads news for one process, this process's own included, and hands them to its listeners in order.

    A listener that raises gets the same news again at the next round, together with what is new by then.
    """

    database: Database
    seconds: float = POLL_SECONDS
    _inboxes: list[_Inbox] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    """Id of a change to its time, as far back as is looked."""
    _until: int | None = None
    """The database's clock at the last reading."""
    _forgot: int = 0
    """The database's clock when old news were last dropped."""
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _heard: float = field(default_factory=time.monotonic)
    _away: str | None = None

    def listen(self, listener: Listener) -> None:
        self._inboxes.append(_Inbox(listener))

    def wake(self) -> None:
        """There may be news: read them now."""
        self._woken.set()

    @property
    def away(self) -> str | None:
        """Why the database is taken to be away; None while it answers."""
        if self._away is None and time.monotonic() - self._heard > self.seconds + SILENT_SECONDS:
            return "the database has not answered for some seconds"
        return self._away

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
                await self._tell(await self._read())
                await self._tidy()
            except (SQLAlchemyError, OSError) as error:
                self._lost(error)
            # Who wakes us cannot keep the database busy.
            await asyncio.sleep(WAKE_SECONDS)

    async def _tell(self, news: Sequence[Change]) -> None:
        for inbox in self._inboxes:
            inbox.news += news
            if not inbox.news:
                continue
            try:
                await inbox.listener(tuple(inbox.news))
            except Exception:
                log.exception("news were not taken; they come again")
            else:
                inbox.news.clear()

    def _lost(self, error: Exception) -> None:
        if busy(error):
            return
        if self._away is None:
            log.warning("news are not read: %s", getattr(error, "orig", error))
        self._away = f"the database does not answer ({type(getattr(error, 'orig', error)).__name__})"

    async def _read(self) -> list[Change]:
        # From the last reading, so that nothing is missed however long the database was away.
        async with self.database.read() as session:
            now = (await session.scalars(select(now_ms()))).one()
            since = min(now, now if self._until is None else self._until) - LOOK_BACK_MS
            query = select(ChangeRow).where(ChangeRow.at >= since).order_by(ChangeRow.at)
            rows = list(await session.scalars(query))
        if self._away is not None:
            log.warning("the database answers again")
        fresh = [row for row in rows if row.id not in self._seen]
        self._seen |= {row.id: row.at for row in fresh}
        self._seen = {id: at for id, at in self._seen.items() if at >= now - LOOK_BACK_MS}
        news = [Change(row.tenant, row.kind, row.subject, tuple(row.detail)) for row in fresh]
        if self._until is not None and now - self._until > KEPT_MS - LOOK_BACK_MS:
            news = [Change("", EVERYTHING, ""), *news]
        self._until, self._heard, self._away = now, time.monotonic(), None
        return news

    async def _tidy(self) -> None:
        assert self._until is not None
        if self._until - self._forgot < KEPT_MS / 4:
            return
        self._forgot = self._until
        async with self.database.write() as session:
            await forget(session, KEPT_MS)
