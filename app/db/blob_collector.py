"""Blobs that rows name: written before their rows, and collected when no row names them any more.

Blobs without a row are left by deletions, by failed creations and by processes that were killed. Each resource
describes its folder by a `BlobFolder`; naming blobs and deleting them exclude each other (`app.db.blob_lock`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import UnavailableError
from app.db.blob_lock import BlobLock
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.tenancy import Store, TenantSession

AT_ONCE = 500
"""Blobs that are deleted at a time; in between, others may begin to name blobs."""

T = TypeVar("T")
log = logging.getLogger("hyperserve")


def _is_path(name: str) -> Sequence[str]:
    return (name,)


def _first_part(path: str) -> str:
    return path.partition("/")[0]


@dataclass(frozen=True)
class BlobFolder:
    """A folder `<name>/<tenant>/…` of blobs that rows name, as one resource describes it to the collector."""

    name: str
    unreferenced: Callable[[TenantSession, Collection[str]], Awaitable[set[str]]]
    """Returns those of the blobs that no row of the tenant names."""
    paths: Callable[[str], Sequence[str]] = _is_path
    """Paths of a blob's files, below the tenant's folder."""
    blob_of: Callable[[str], str] = _first_part
    """The blob that a path belongs to."""


@dataclass(frozen=True)
class CacheFolder:
    """A folder of blobs that can be made again. Their paths end in the id of a row, and no id is used twice."""

    name: str
    existing: Callable[[AsyncSession, Collection[str]], Awaitable[set[str]]]
    """Returns those of the ids that have a row."""


class BlobCollector:
    """Writes blobs together with the rows that name them, and deletes blobs that no row names. One per process."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._lock = BlobLock(database)
        self._left: dict[tuple[str, BlobFolder], set[str]] = {}
        """Blobs by tenant and folder that could not be deleted when they should."""

    @asynccontextmanager
    async def naming(self, store: Store) -> AsyncIterator[TenantSession]:
        """Open a write transaction whose rows may name blobs of the store: none is collected until it ends."""
        async with self._lock.shared(), store.write() as session:
            await self._lock.lock(session, exclusive=False)
            yield session

    async def write(
        self,
        store: Store,
        folder: BlobFolder,
        blobs: Mapping[str, bytes],
        rows: Callable[[TenantSession], Awaitable[T]],
    ) -> T:
        """Write blobs of one file each, then, in one transaction, the `rows` that name them.

        Returns what `rows` returns. If anything raises, no blob is left.
        """
        files = {path: data for name, data in blobs.items() for path in folder.paths(name)}
        stored = store.files(folder.name)
        try:
            async with self._lock.shared():
                await stored.put_all(files)
                async with store.write() as session:
                    await self._lock.lock(session, exclusive=False)
                    if not self._lock.by_file:
                        # Until this lock another process may have deleted a blob together with its last row.
                        await stored.put_all(files, again=True)
                    return await rows(session)
        except BaseException as error:
            # If a service did not answer just now, it would not say which blobs have other rows.
            if isinstance(error, UnavailableError):
                self.collect_later(store.tenant, folder, blobs)
            else:
                await self.collect(store.tenant, folder, blobs)
            raise

    async def collect(self, tenant: str, folder: BlobFolder, blobs: Collection[str]) -> None:
        """Delete those of the blobs that no row names; later, if the database or the store does not answer."""
        store = Store(tenant, self._database, self._blobs)
        left = self._left.pop((tenant, folder), set()) | set(blobs)
        try:
            while some := set(islice(left, AT_ONCE)):
                async with self._lock.exclusive(), store.read() as session:
                    await self._lock.lock(session, exclusive=True)
                    garbage = await folder.unreferenced(session, some)
                    paths = [path for blob in garbage for path in folder.paths(blob)]
                    await store.files(folder.name).delete(paths)
                left -= some
        except BaseException as error:
            self.collect_later(tenant, folder, left)
            if not isinstance(error, UnavailableError):
                raise
            log.warning("%d blobs of %s are deleted later: %s", len(left), folder.name, error)

    def collect_later(self, tenant: str, folder: BlobFolder, blobs: Collection[str]) -> None:
        """Add blobs to those of the next `retry`."""
        self._left.setdefault((tenant, folder), set()).update(blobs)

    async def retry(self) -> None:
        """Collect what could not be collected before."""
        for tenant, folder in list(self._left):
            await self.collect(tenant, folder, ())

    async def sweep(self, folder: BlobFolder, *, dry_run: bool = False) -> int:
        """Collect a whole folder, of all tenants. Returns the number of files without a row."""
        count = 0
        async for paths in self._blobs.listed_files(f"{folder.name}/"):
            tenants: dict[str, Counter[str]] = {}
            for path in paths:
                _, tenant, rest = path.split("/", 2)
                tenants.setdefault(tenant, Counter())[folder.blob_of(rest)] += 1
            for tenant, files in tenants.items():
                async with Store(tenant, self._database, self._blobs).read() as session:
                    garbage = await folder.unreferenced(session, files)
                count += sum(files[blob] for blob in garbage)
                if not dry_run:
                    await self.collect(tenant, folder, garbage)
        return count

    async def sweep_cache(self, folder: CacheFolder, *, dry_run: bool = False) -> int:
        """Delete what lies in a folder without a row. Returns the number of files."""
        count = 0
        async for paths in self._blobs.listed_files(f"{folder.name}/"):
            ids = {path: path.rpartition("/")[2] for path in paths}
            async with self._database.read() as session:
                existing = await folder.existing(session, set(ids.values()))
            garbage = [path for path, id in ids.items() if id not in existing]
            count += len(garbage)
            if not dry_run:
                await self._blobs.delete_files(garbage)
        return count

    async def sweep_unfinished(self) -> None:
        """Delete files that killed processes have left half-written."""
        await self._blobs.sweep()
