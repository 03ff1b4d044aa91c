"""Learners that were trained here, or are being trained, in the database."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, delete, exists, select, update

from app.db.tables import (
    JobRow,
    LearnerRow,
    StreamRow,
    VersionRow,
)
from app.db.tenancy import TenantSession
from app.jobs.repository import ACTIVE

FOLDER = "learners"
"""Folder of the blob store that holds their artifacts, each under its digest."""
_FORGOTTEN = {"code": "job_failed", "detail": "The job that trained it has ended without a learner."}
_CANCELLED = {"code": "cancelled", "detail": "The job that trained it was cancelled."}


@dataclass(frozen=True)
class Trained:
    """A row with the state of its job: a job that ended in any way but success is a failed learner."""

    row: LearnerRow
    state: str | None
    """State of the job; None if the job was deleted."""
    failure: dict[str, Any] | None
    """Error of the job."""

    @property
    def status(self) -> Literal["ready", "training", "failed"]:
        if self.row.status == "ready":
            return "ready"
        return "training" if self.state in ACTIVE else "failed"

    @property
    def error(self) -> dict[str, Any] | None:
        if self.status != "failed":
            return None
        return self.failure or (_CANCELLED if self.state == "cancelled" else _FORGOTTEN)


async def add(session: TenantSession, row: LearnerRow) -> None:
    session.add(row)
    await session.flush()


async def get(session: TenantSession, name: str) -> Trained | None:
    found = (await session.execute(_trained().where(LearnerRow.name == name))).one_or_none()
    return None if found is None else Trained(*found)


async def listed(session: TenantSession, after: str | None, limit: int) -> list[Trained]:
    """Return learners in the order of their names in Python, starting after the name `after`."""
    # A database of some language sorts hyphens as if they were not there.
    name = LearnerRow.name.collate("C" if session.get_bind().dialect.name == "postgresql" else "BINARY")
    query = _trained().order_by(name).limit(limit)
    query = query if after is None else query.where(name > after)
    return [Trained(*row) for row in await session.execute(query)]


async def names(session: TenantSession) -> list[str]:
    """Return the names of ready learners."""
    ready = select(LearnerRow.name).where(LearnerRow.status == "ready")
    return list(await session.scalars(ready.order_by(LearnerRow.name)))


async def publish(session: TenantSession, id: str, job: str, digest: str) -> bool:
    """Make a learner ready. Return False if it has been deleted, or belongs to another job by now."""
    mine = (LearnerRow.id == id, LearnerRow.job_id == job)
    values = {"status": "ready", "digest": digest}
    done = await session.execute(update(LearnerRow).where(*mine).values(values).returning(LearnerRow.id))
    return done.one_or_none() is not None


async def remove(session: TenantSession, id: str) -> None:
    await session.execute(delete(LearnerRow).where(LearnerRow.id == id))


async def in_use(session: TenantSession, name: str) -> bool:
    """Return whether a version of a task uses the learner."""
    return bool(await session.scalar(select(exists().where(VersionRow.learner == name))))


async def unreferenced(session: TenantSession, digests: Collection[str]) -> set[str]:
    """Return the artifacts that no learner has."""
    named = select(LearnerRow.digest).where(LearnerRow.digest.in_(digests))
    return set(digests) - set(await session.scalars(named))


def _trained() -> Select[LearnerRow, str | None, dict[str, Any] | None]:
    joined = select(LearnerRow, JobRow.state, JobRow.error)
    return joined.outerjoin(JobRow, JobRow.id == LearnerRow.job_id)


async def is_encoder_of_stream(session: TenantSession, name: str) -> bool:
    """Return whether a stream uses the encoder of the learner."""
    return name in set(await session.scalars(select(StreamRow.config["encoder"].as_string())))
