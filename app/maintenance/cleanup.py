"""The cleanup of what is not needed any more: expired and finished rows, and blobs that no row names."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, func, or_, select

from app.core.errors import AppError
from app.core.settings import Settings
from app.datasets.repository import FILES
from app.db.base import Base, now
from app.db.blob_collector import BlobCollector
from app.db.clock import now_ms
from app.db.database import Database
from app.db.invalidation_log import RETENTION_MS
from app.db.tables import ChangeRow, IdempotencyRow, JobRow, PredictionRow
from app.jobs import folders
from app.jobs.repository import ACTIVE
from app.learners.files import ARTIFACTS
from app.streams.repository import PARTS
from app.tasks import repository as tasks

MINUTE_SECONDS, HOUR_SECONDS = 60.0, 3_600.0

log = logging.getLogger("hyperserve")


@dataclass(frozen=True)
class CleanupReport:
    """Numbers of rows and files that were deleted, or would be."""

    inputs: int
    """Raw inputs that no example and no prediction names."""
    features: int
    """Features of deleted versions."""
    dataset_files: int
    learner_files: int
    stream_parts: int
    """Parts of deleted versions, and held-out examples of deleted stream tasks."""
    predictions: int
    idempotency_keys: int
    jobs: int
    job_folders: int
    changes: int


@dataclass(frozen=True)
class Cleanup:
    """Works beside running servers: nothing is deleted that a request could begin to need."""

    database: Database
    collector: BlobCollector
    settings: Settings

    async def collect(self, *, dry_run: bool = False) -> CleanupReport:
        """Delete rows first, so that their blobs go in the same run.

        A dry run deletes nothing, and does not count the blobs that would then be without a row.
        """
        expired = PredictionRow.expires_at < now()
        predictions = await (
            self._count(PredictionRow, expired) if dry_run else self.drop_expired_predictions()
        )
        keys = await self._drop(IdempotencyRow, _expired_keys(), dry_run)
        jobs = await self._drop(JobRow, self._old_jobs(), dry_run)
        changes = await self._drop(ChangeRow, ChangeRow.at < now_ms() - RETENTION_MS, dry_run)
        return CleanupReport(
            inputs=await self.collector.sweep(tasks.INPUTS, dry_run=dry_run),
            features=await self.collector.sweep_cache(tasks.FEATURES, dry_run=dry_run),
            dataset_files=await self.collector.sweep(FILES, dry_run=dry_run),
            learner_files=await self.collector.sweep(ARTIFACTS, dry_run=dry_run),
            stream_parts=await self.collector.sweep(PARTS, dry_run=dry_run),
            predictions=predictions,
            idempotency_keys=keys,
            jobs=jobs,
            job_folders=await self._folders(dry_run),
            changes=changes,
        )

    async def drop_expired_predictions(self) -> int:
        """Drop predictions that no longer take feedback, and their inputs. Returns their number."""
        count = 0
        while True:
            async with self.database.write() as session:
                dropped = await tasks.drop_lapsed(session, now())
            for tenant in {tenant for tenant, _ in dropped}:
                blobs = {blob for owner, blob in dropped if owner == tenant}
                await self.collector.collect(tenant, tasks.INPUTS, blobs)
            count += len(dropped)
            if len(dropped) < tasks.LAPSED_AT_ONCE:
                return count

    async def run(self) -> None:
        """Delete what killed processes have left, then clean up until cancelled."""
        try:
            await self.collector.sweep_unfinished()
            await self.collector.sweep(tasks.INPUTS)
            await self.collector.sweep_cache(tasks.FEATURES)
        except AppError as error:
            log.warning("files of killed processes were not deleted: %s", error)
        await asyncio.gather(self._every_minute(), self._every_hour())

    async def _every_minute(self) -> None:
        while True:
            await asyncio.sleep(MINUTE_SECONDS)
            try:
                await self.drop_expired_predictions()
                await self.collector.retry()
            except AppError as error:
                log.warning("expired predictions were not deleted: %s", error)

    async def _every_hour(self) -> None:
        while True:
            # Several processes do so at different times.
            await asyncio.sleep(HOUR_SECONDS * random.uniform(0.5, 1.5))
            try:
                report = await self.collect()
            except (AppError, OSError) as error:
                log.warning("the cleanup failed: %s", error)
                continue
            if any(asdict(report).values()):
                log.info("cleaned up", extra=asdict(report))

    async def _drop(self, row: type[Base], which: ColumnElement[bool], dry_run: bool) -> int:
        count = await self._count(row, which)
        if count and not dry_run:
            async with self.database.write() as session:
                await session.execute(delete(row).where(which))
        return count

    async def _count(self, row: type[Base], which: ColumnElement[bool]) -> int:
        async with self.database.read() as session:
            return await session.scalar(select(func.count()).select_from(row).where(which)) or 0

    def _old_jobs(self) -> ColumnElement[bool]:
        before = now() - timedelta(seconds=self.settings.job_seconds)
        return and_(JobRow.state.not_in(ACTIVE), JobRow.finished_at < before)

    async def _folders(self, dry_run: bool) -> int:
        if not dry_run:
            return await folders.tidy(self.database, self.settings.data_dir)
        return len(await folders.idle(self.database, self.settings.data_dir))


def _expired_keys() -> ColumnElement[bool]:
    row = IdempotencyRow
    return or_(row.expires_at < now_ms(), and_(row.status.is_(None), row.lease_until < now_ms()))
