"""Blobs that no task holds: left by deletions, by failed creations, and by processes that were killed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from itertools import islice

from sqlalchemy.exc import SQLAlchemyError

from app.db.base import now
from app.db.blobs import STORE_ERRORS, Blobs
from app.db.engine import Database
from app.db.failures import NO_ANSWER
from app.db.locks import Holds
from app.tasks import repository

RETRY_SECONDS = 60.0
AT_ONCE = 500
"""Blobs that are deleted at a time; in between, others may begin to hold blobs."""
BUSY = NO_ANSWER
"""How a database says that it has no time, or nothing at all."""
FAILURES = (SQLAlchemyError, *STORE_ERRORS)
"""After which the next round comes all the same."""

log = logging.getLogger("hyperserve")


class Collector:
    """Deletes a blob only while nobody can begin to hold it: see `app.db.locks`."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self.holds = Holds(database)
        self._left: dict[str, set[str]] = {}
        """By tenant, what a busy database kept from being deleted."""

    async def collect(self, tenant: str, blobs: Collection[str]) -> None:
        """Deletes those of the blobs that no task holds; later, where the database is busy."""
        wanted = self._left.pop(tenant, set()) | set(blobs)
        try:
            while some := set(islice(wanted, AT_ONCE)):
                async with self.holds.alone(), self._database.read() as session:
                    await self.holds.lock(session, adding=False)
                    await self._blobs.delete(tenant, await repository.unreferenced(session, tenant, some))
                wanted -= some
        except BaseException as error:
            self.later(tenant, wanted)
            if not isinstance(error, BUSY):
                raise
            log.warning(
                "%d blobs of deleted examples stay for now: %s", len(wanted), getattr(error, "orig", error)
            )

    def later(self, tenant: str, blobs: Collection[str]) -> None:
        """To be collected when the database has time again."""
        self._left.setdefault(tenant, set()).update(blobs)

    async def sweep(self) -> None:
        """Once over the whole store."""
        await self._blobs.sweep()
        async for tenant, names in self._blobs.listed():
            async with self._database.read() as session:
                orphans = await repository.unreferenced(session, tenant, names)
            await self.collect(tenant, orphans)
        async for versions in self._blobs.listed_features():
            async with self._database.read() as session:
                known = await repository.known_versions(session, [version for _, version in versions])
            await self._blobs.delete_features([pair for pair in versions if pair[1] not in known])

    async def lapse(self) -> int:
        """Drops predictions that take no feedback any more, and their inputs; how many."""
        count = 0
        while True:
            async with self._database.write() as session:
                gone = await repository.drop_lapsed(session, now())
            for tenant in {tenant for tenant, _ in gone}:
                await self.collect(tenant, {blob for owner, blob in gone if owner == tenant})
            count += len(gone)
            if len(gone) < repository.AT_ONCE:
                return count

    async def run(self) -> None:
        """Sweeps what a killed process may have left; then retries what is left and drops what lapses."""
        try:
            await self.sweep()
        except FAILURES as error:
            log.warning("left-over blobs were not looked for: %s", getattr(error, "orig", error))
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self.lapse()
            except FAILURES as error:
                log.warning("lapsed predictions stay for now: %s", getattr(error, "orig", error))
            for tenant in list(self._left):
                try:
                    await self.collect(tenant, ())
                except FAILURES as error:
                    log.warning("blobs of deleted examples stay for now: %s", error)
