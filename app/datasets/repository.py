"""Datasets in the database."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, exists, select, update

from app.db.blob_collector import BlobFolder
from app.db.tables import DatasetRow, JobRow, LearnerRow, StreamTaskRow
from app.db.tenancy import TenantSession
from app.jobs.repository import ACTIVE
from models.data.errors import ReadOptions

FOLDER = "datasets"
"""Folder of the blob store that holds their files, each under the digest of its bytes."""
_MAKING = ("training", "registering")


async def add(session: TenantSession, row: DatasetRow) -> None:
    session.add(row)
    await session.flush()


async def get(session: TenantSession, id: str, *, lock: bool = False) -> DatasetRow | None:
    """Return a dataset; with `lock`, locked until the transaction ends."""
    query = select(DatasetRow).where(DatasetRow.id == id)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def listed(session: TenantSession, before: str | None, limit: int) -> list[DatasetRow]:
    """Return datasets, newest first, starting after the dataset `before`."""
    query = select(DatasetRow).order_by(DatasetRow.id.desc()).limit(limit)
    return list(await session.scalars(query if before is None else query.where(DatasetRow.id < before)))


def options_of(row: DatasetRow) -> ReadOptions:
    """Return how the file of a dataset is read."""
    return ReadOptions(**(row.options or {}))


async def in_use(session: TenantSession, id: str) -> bool:
    """Return whether a queued or running job trains a learner on the dataset or registers it into a stream."""
    for row, state in ((LearnerRow, LearnerRow.status), (StreamTaskRow, StreamTaskRow.state)):
        job = select(JobRow.id).where(JobRow.id == row.job_id, JobRow.state.in_(ACTIVE))
        needed = (row.dataset_id == id, state.in_(_MAKING), exists(job))
        if await session.scalar(select(exists().where(*needed))):
            return True
    return False


async def remove(session: TenantSession, id: str) -> None:
    """Delete a dataset. Learners and stream tasks that were made of it stay, without naming it."""
    for row in (LearnerRow, StreamTaskRow):
        await session.execute(update(row).where(row.dataset_id == id).values(dataset_id=None))
    await session.execute(delete(DatasetRow).where(DatasetRow.id == id))


async def unreferenced(session: TenantSession, digests: Collection[str]) -> set[str]:
    """Return the files that no dataset has."""
    named = select(DatasetRow.blob).where(DatasetRow.blob.in_(digests))
    return set(digests) - set(await session.scalars(named))


FILES = BlobFolder(FOLDER, unreferenced)
