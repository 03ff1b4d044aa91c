"""Garbage collection of inputs that no task has: left by deletions, failed creations and killed processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import islice
from typing import TypeVar

from app.db.base import now
from app.db.blobs import Blobs, BlobStoreError
from app.db.database import Database
from app.db.errors import DatabaseError, DatabaseUnavailableError
from app.db.locks import Holds
from app.db.tenancy import Store, TenantSession
from app.tasks import repository

RETRY_SECONDS = 60.0
AT_ONCE = 500
"""Blobs that are deleted at a time; in between, others may begin to name blobs."""
BUSY = DatabaseUnavailableError
"""Errors of a database that has no time, or that does not answer at all."""
FAILURES = (DatabaseError, BlobStoreError)
"""Errors after which the next round comes all the same."""

log = logging.getLogger("hyperserve")
T = TypeVar("T")


class Collector:
    """Writes inputs together with the rows that name them, and deletes inputs that no row names any more.

    The two exclude each other: see `app.db.locks`.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self.holds = Holds(database)
        self._left: dict[str, set[str]] = {}
        """Blobs by tenant that could not be deleted because the database was busy."""

    async def write(
        self, store: Store, blobs: Mapping[str, bytes], rows: Callable[[TenantSession], Awaitable[T]]
    ) -> T:
        """Write blobs by digest, then, in one transaction, the `rows` that name them; return what `rows` returns.

        Raises what `rows` raises. Blobs that fail to be named are deleted again.
        """
        try:
            async with self.holds.adding():
                await store.blobs.put_missing(blobs)
                async with store.write() as session:
                    await self.holds.lock(session, adding=True)
                    if not self.holds.by_file:
                        # Until this lock someone may have deleted a blob together with its last example.
                        await store.blobs.put_missing(blobs, again=True)
                    return await rows(session)
        except BaseException as error:
            # A database too busy to commit is too busy to say which blobs are others' as well.
            if isinstance(error, BUSY):
                self.later(store.tenant, blobs)
            else:
                await self.collect(store.tenant, blobs)
            raise

    async def collect(self, tenant: str, blobs: Collection[str]) -> None:
        """Delete those of the blobs that no task has; later, if the database is busy."""
        store = Store(tenant, self._database, self._blobs)
        wanted = self._left.pop(tenant, set()) | set(blobs)
        try:
            while some := set(islice(wanted, AT_ONCE)):
                async with self.holds.alone(), store.read() as session:
                    await self.holds.lock(session, adding=False)
                    await store.blobs.delete(await repository.unreferenced(session, some))
                wanted -= some
        except BaseException as error:
            self.later(tenant, wanted)
            if not isinstance(error, BUSY):
                raise
            log.warning("%d blobs of deleted examples stay for now: %s", len(wanted), error)

    def later(self, tenant: str, blobs: Collection[str]) -> None:
        """Collect the blobs when the database has time again."""
        self._left.setdefault(tenant, set()).update(blobs)

    async def sweep(self) -> None:
        """Go once over the whole store."""
        await self._blobs.sweep()
        async for tenant, names in self._blobs.listed():
            async with Store(tenant, self._database, self._blobs).read() as session:
                orphans = await repository.unreferenced(session, names)
            await self.collect(tenant, orphans)
        async for versions in self._blobs.listed_features():
            async with self._database.read() as session:
                known = await repository.known_versions(session, [version for _, version in versions])
            await self._blobs.delete_features([pair for pair in versions if pair[1] not in known])

    async def lapse(self) -> int:
        """Drop predictions that no longer take feedback, and their inputs. Returns how many."""
        count = 0
        while True:
            async with self._database.write() as session:
                gone = await repository.drop_lapsed(session, now())
            for tenant in {tenant for tenant, _ in gone}:
                await self.collect(tenant, {blob for owner, blob in gone if owner == tenant})
            count += len(gone)
            if len(gone) < repository.LAPSED_AT_ONCE:
                return count

    async def run(self) -> None:
        """Sweep what a killed process may have left; then, until cancelled, retry what is left and drop what lapses."""
        try:
            await self.sweep()
        except FAILURES as error:
            log.warning("left-over blobs were not looked for: %s", error)
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self.lapse()
            except FAILURES as error:
                log.warning("lapsed predictions stay for now: %s", error)
            for tenant in list(self._left):
                try:
                    await self.collect(tenant, ())
                except FAILURES as error:
                    log.warning("blobs of deleted examples stay for now: %s", error)
