"""Lanes of the queue: jobs that change one thing run one at a time, in the order in which they were asked for."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import ColumnElement, case, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.db.clock import now_ms
from app.db.tables import JobRow

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "dead"]
ACTIVE: tuple[State, ...] = ("queued", "running")


async def ahead(session: AsyncSession, job: JobRow) -> list[JobRow]:
    """Jobs of its lane that run or come before it, in order."""
    others = select(JobRow).where(JobRow.lane == job.lane, JobRow.state.in_(ACTIVE))
    return list(await session.scalars(others.where(JobRow.run_at < job.run_at).order_by(JobRow.run_at)))


async def active(session: AsyncSession, lane: str) -> bool:
    """Whether a job of the lane runs or waits."""
    return bool(await session.scalar(select(exists().where(JobRow.lane == lane, JobRow.state.in_(ACTIVE)))))


def behind() -> ColumnElement[bool]:
    """Whether another job of a job's lane runs, or was there before it."""
    other = aliased(JobRow)
    before = (other.state == "queued") & (other.run_at < JobRow.run_at)
    return exists().where(other.lane == JobRow.lane, or_(other.state == "running", before))


def last_in(lane: str) -> ColumnElement[int]:
    """When to run what comes last: later than all others, though the clock may not have moved on."""
    last = select(func.max(JobRow.run_at)).where(JobRow.lane == lane, JobRow.state.in_(ACTIVE))
    after = func.coalesce(last.scalar_subquery(), 0) + 1
    return case((after > now_ms(), after), else_=now_ms())
