"""Clearing away what nobody needs any more: what has lapsed, what has finished, and blobs that no row names."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.settings import Settings
from app.datasets import repository as datasets
from app.db.base import Base, now
from app.db.blobs import Blobs
from app.db.clock import now_ms
from app.db.database import Database
from app.db.invalidation_log import RETENTION_MS, drop_old
from app.db.locks import FILES, lock
from app.db.tables import ChangeRow, IdempotencyRow, JobRow, PredictionRow
from app.jobs import folders
from app.jobs.repository import ACTIVE
from app.learners import repository as learners
from app.streams import repository as streams
from app.tasks import repository as tasks
from app.tasks.garbage import FAILURES, Collector

EVERY_SECONDS = 3_600.0

Refers = Callable[[AsyncSession, str, str], Awaitable[bool]]
"""Whether a row of a tenant has a digest."""

log = logging.getLogger("hyperserve")


@dataclass(frozen=True)
class Report:
    """How many of each were deleted, or would be."""

    inputs: int
    """Raw inputs that no example and no prediction names."""
    features: int
    """Of versions that are gone."""
    dataset_files: int
    learner_files: int
    stream_parts: int
    """Of versions that are gone, and held-out examples of stream tasks that are."""
    predictions: int
    idempotency_keys: int
    jobs: int
    job_folders: int
    changes: int


class Maintenance:
    """Works beside running servers: every deletion is made where nobody can begin to need what goes."""

    def __init__(self, database: Database, blobs: Blobs, garbage: Collector, settings: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._garbage = garbage
        self._settings = settings

    async def collect(self, *, dry_run: bool = False) -> Report:
        """Rows first, so that their blobs go in the same run. A dry run deletes nothing, and does not see the
        blobs that would then be without a row."""
        lapsed = PredictionRow.expires_at < now()
        predictions = await self._count(PredictionRow, lapsed) if dry_run else await self._garbage.lapse()
        keys = await self._rows(IdempotencyRow, _lapsed_keys(), dry_run)
        jobs = await self._rows(JobRow, self._old_jobs(), dry_run)
        old = ChangeRow.at < now_ms() - RETENTION_MS
        changes = await self._count(ChangeRow, old)
        if not dry_run:
            async with self._database.write() as session:
                await drop_old(session, RETENTION_MS)
        return Report(
            inputs=await self._inputs(dry_run),
            features=await self._features(dry_run),
            dataset_files=await self._files(datasets.PREFIX, datasets.refers, dry_run),
            learner_files=await self._files(learners.PREFIX, learners.refers, dry_run),
            stream_parts=await self._files(streams.PREFIX, streams.refers, dry_run),
            predictions=predictions,
            idempotency_keys=keys,
            jobs=jobs,
            job_folders=await self._folders(dry_run),
            changes=changes,
        )

    async def run(self) -> None:
        """Every hour, until cancelled. Several processes do so at times of their own."""
        while True:
            await asyncio.sleep(EVERY_SECONDS * random.uniform(0.5, 1.5))
            try:
                report = await self.collect()
            except FAILURES as error:
                log.warning("nothing was cleared away: %s", error)
                continue
            if any(asdict(report).values()):
                log.info("cleared away", extra=asdict(report))

    async def _rows(self, row: type[Base], which: ColumnElement[bool], dry_run: bool) -> int:
        count = await self._count(row, which)
        if count and not dry_run:
            async with self._database.write() as session:
                await session.execute(delete(row).where(which))
        return count

    async def _count(self, row: type[Base], which: ColumnElement[bool]) -> int:
        async with self._database.read() as session:
            return await session.scalar(select(func.count()).select_from(row).where(which)) or 0

    def _old_jobs(self) -> ColumnElement[bool]:
        before = now() - timedelta(seconds=self._settings.job_seconds)
        return and_(JobRow.state.not_in(ACTIVE), JobRow.finished_at < before)

    async def _inputs(self, dry_run: bool) -> int:
        count = 0
        async for tenant, names in self._blobs.listed():
            async with self._database.read() as session:
                orphans = await tasks.unreferenced(session, tenant, names)
            count += len(orphans)
            if not dry_run:
                await self._garbage.collect(tenant, orphans)
        return count

    async def _features(self, dry_run: bool) -> int:
        count = 0
        async for versions in self._blobs.listed_features():
            async with self._database.read() as session:
                known = await tasks.known_versions(session, [version for _, version in versions])
            gone = [pair for pair in versions if pair[1] not in known]
            count += len(gone)
            if not dry_run:
                await self._blobs.delete_features(gone)
        return count

    async def _files(self, prefix: str, refers: Refers, dry_run: bool) -> int:
        """Paths below `prefix` begin with a tenant and a digest."""
        count = 0
        async for paths in self._blobs.listed_files(prefix):
            named: dict[tuple[str, str], list[str]] = {}
            for path in paths:
                tenant, digest = path.split("/")[1:3]
                named.setdefault((tenant, digest), []).append(path)
            for (tenant, digest), files in named.items():
                async with self._database.read() as session:
                    if await refers(session, tenant, digest):
                        continue
                count += len(files)
                if dry_run:
                    continue
                async with self._database.write() as session:
                    await lock(session, FILES)
                    if not await refers(session, tenant, digest):
                        await self._blobs.delete_files(files)
        return count

    async def _folders(self, dry_run: bool) -> int:
        if not dry_run:
            return await folders.tidy(self._database, self._settings.data_dir)
        return len(await folders.idle(self._database, self._settings.data_dir))


def _lapsed_keys() -> ColumnElement[bool]:
    row = IdempotencyRow
    return or_(row.expires_at < now_ms(), and_(row.status.is_(None), row.lease_until < now_ms()))
