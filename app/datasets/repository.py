"""Datasets in the database, and where their files lie in the blob store."""

from __future__ import annotations

from sqlalchemy import delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import DatasetRow, JobRow, LearnerRow, StreamTaskRow
from app.jobs.repository import ACTIVE

PREFIX = "datasets/"
_MAKING = ("training", "registering")


def path(tenant: str, sha256: str) -> str:
    """Of the file as it came."""
    return f"{PREFIX}{tenant}/{sha256}"


async def add(session: AsyncSession, row: DatasetRow) -> None:
    session.add(row)
    await session.flush()


async def get(session: AsyncSession, tenant: str, id: str, *, lock: bool = False) -> DatasetRow | None:
    """With `lock` it stays until the transaction ends."""
    query = select(DatasetRow).where(DatasetRow.tenant == tenant, DatasetRow.id == id)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def listed(session: AsyncSession, tenant: str, before: str | None, limit: int) -> list[DatasetRow]:
    """Newest first, starting after the dataset `before`."""
    query = select(DatasetRow).where(DatasetRow.tenant == tenant).order_by(DatasetRow.id.desc()).limit(limit)
    return list(await session.scalars(query if before is None else query.where(DatasetRow.id < before)))


async def in_use(session: AsyncSession, tenant: str, id: str) -> bool:
    """Whether a learner is being trained on it, or it is being registered into a stream, or waits for either."""
    for row, state in ((LearnerRow, LearnerRow.status), (StreamTaskRow, StreamTaskRow.state)):
        job = select(JobRow.id).where(JobRow.id == row.job_id, JobRow.state.in_(ACTIVE))
        needed = (row.tenant == tenant, row.dataset_id == id, state.in_(_MAKING), exists(job))
        if await session.scalar(select(exists().where(*needed))):
            return True
    return False


async def remove(session: AsyncSession, tenant: str, id: str) -> None:
    """Learners and stream tasks that were made of it stay, without naming it."""
    for row in (LearnerRow, StreamTaskRow):
        mine = (row.tenant == tenant, row.dataset_id == id)
        await session.execute(update(row).where(*mine).values(dataset_id=None))
    await session.execute(delete(DatasetRow).where(DatasetRow.tenant == tenant, DatasetRow.id == id))


async def refers(session: AsyncSession, tenant: str, sha256: str) -> bool:
    """Whether a dataset has this file. Meant to be asked under `app.db.locks.FILES`."""
    mine = (DatasetRow.tenant == tenant, DatasetRow.blob == sha256)
    return bool(await session.scalar(select(exists().where(*mine))))
