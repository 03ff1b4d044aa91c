"""The invalidation log: a transaction that changes rows which other processes keep in memory records the change.

Every process reads new changes about once a second, and at once when it is woken. A change becomes visible when
its transaction commits, which may be after a later one did: each reading looks a few seconds back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import UnavailableError
from app.core.ids import new_id
from app.db.clock import now_ms
from app.db.database import CHANGED, Database
from app.db.errors import DatabaseBusyError, DatabaseError
from app.db.tables import ChangeRow

POLL_SECONDS = 1.0
LOOK_BACK_MS = 10_000
"""The latest that a change may become visible. `record` comes last in its transaction, so it is far less."""
RETENTION_MS = 3_600_000
"""Age at which changes are dropped. A process that could not read them for longer may have missed any."""
EVERYTHING = "everything"
"""Kind of the change delivered in that case: anything kept in memory may be out of date."""
WAKE_SECONDS = 0.02
"""The least time between two readings."""
SILENT_SECONDS = 5.0
"""Time that a reading may take before the database counts as away."""

log = logging.getLogger("hyperserve")


class UndeliveredError(UnavailableError):
    """A listener could not take changes now; they are delivered again within a second."""


@dataclass(frozen=True)
class Change:
    """One change. `kind` is task (promoted, renamed), purge (a task is gone), learner, stream, job, or everything."""

    tenant: str
    kind: str
    subject: str
    """Id of the task or job, name of the learner or stream."""
    detail: tuple[str, ...] = ()
    """For a purge, the ids of the versions that are gone; for a stream, see `app.streams.cache`."""


async def record(session: AsyncSession, *changes: Change) -> None:
    """Record changes. Call it last in the transaction that makes them, a session of `Database.write`."""
    session.info[CHANGED] = True
    for change in changes:
        row = vars(change) | {"id": new_id("chg"), "at": now_ms(), "detail": list(change.detail)}
        await session.execute(insert(ChangeRow).values(row))


async def drop_old(session: AsyncSession, older_than_ms: int) -> None:
    """Drop changes that every process has read long ago."""
    await session.execute(delete(ChangeRow).where(ChangeRow.at < now_ms() - older_than_ms))


Listener = Callable[[Sequence[Change]], Awaitable[None]]


@dataclass
class _Subscription:
    listener: Listener
    pending: list[Change] = field(default_factory=list)


@dataclass
class ChangeWatcher:
    """Reads changes for one process, its own included, and delivers them to its listeners in order.

    A listener that raises gets the same changes again in the next round, together with what is new by then.
    """

    database: Database
    seconds: float = POLL_SECONDS
    _subscriptions: list[_Subscription] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    """Time of each change by its id, as far back as readings look."""
    _until: int | None = None
    """The database's clock at the last reading."""
    _dropped: int = 0
    """The database's clock when old changes were last dropped."""
    _woken: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one that reads and delivers."""
    _begun: int = 0
    """Number of rounds, each a reading and a delivery, that have begun."""
    _delivered: int = 0
    """The last round whose changes every listener has taken; with them it has taken all earlier ones."""
    _answered: float = field(default_factory=time.monotonic)
    _away: str | None = None

    def subscribe(self, listener: Listener) -> None:
        """Deliver changes to a listener from now on."""
        self._subscriptions.append(_Subscription(listener))

    def wake(self) -> None:
        """Read now: there may be changes."""
        self._woken.set()

    @property
    def away(self) -> str | None:
        """The reason to consider the database away; None while it answers."""
        if self._away is None and time.monotonic() - self._answered > self.seconds + SILENT_SECONDS:
            return "the database has not answered for some seconds"
        return self._away

    async def begin(self) -> None:
        """Start here: earlier changes are not delivered. Call it before anything is kept in memory."""
        await self._read()

    async def catch_up(self) -> None:
        """Return when the listeners have taken every change that was committed before the call.

        Callers share rounds. Raises `DatabaseError`, and `UndeliveredError` if a listener failed.
        """
        before = self._begun
        async with self._turn:
            if self._delivered <= before:
                await self._round()
            if self._delivered <= before:
                raise UndeliveredError("changes are read but not applied")

    async def run(self) -> None:
        """Read and deliver until cancelled. What is committed while the database is away comes afterwards."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self.seconds)
            self._woken.clear()
            try:
                async with self._turn:
                    await self._round()
                await self._drop_old()
            except DatabaseBusyError:
                pass
            except DatabaseError as error:
                self._lose(error)
            # Wake-ups cannot keep the database busy.
            await asyncio.sleep(WAKE_SECONDS)

    async def _round(self) -> None:
        self._begun += 1
        this = self._begun
        if await self._deliver(await self._read()):
            self._delivered = this

    async def _deliver(self, changes: Sequence[Change]) -> bool:
        """Return whether every listener has taken all changes."""
        # Before the first listener runs: who is cancelled in the middle must not lose those of the others.
        for subscription in self._subscriptions:
            subscription.pending += changes
        for subscription in self._subscriptions:
            if not subscription.pending:
                continue
            try:
                await subscription.listener(tuple(subscription.pending))
            except Exception:
                log.exception("a listener failed to take changes; they are delivered again")
            else:
                subscription.pending.clear()
        return not any(subscription.pending for subscription in self._subscriptions)

    def _lose(self, error: DatabaseError) -> None:
        if self._away is None:
            log.warning("the invalidation log cannot be read: %s", error)
        cause = error.__cause__
        self._away = f"the database does not answer ({type(getattr(cause, 'orig', cause)).__name__})"

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
        changes = [Change(row.tenant, row.kind, row.subject, tuple(row.detail)) for row in fresh]
        if self._until is not None and now - self._until > RETENTION_MS - LOOK_BACK_MS:
            changes = [Change("", EVERYTHING, ""), *changes]
        self._until, self._answered, self._away = now, time.monotonic(), None
        return changes

    async def _drop_old(self) -> None:
        assert self._until is not None
        if self._until - self._dropped < RETENTION_MS / 4:
            return
        self._dropped = self._until
        async with self.database.write() as session:
            await drop_old(session, RETENTION_MS)
