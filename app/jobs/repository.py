"""The queue: jobs under leases, by the database's clock. Run at least once, published once.

The worker that claims a job holds a lease and a fencing token that grows with every claim and every loss. Whatever is
written for a running job is written only if the token is unchanged, so a worker that was paused, cut off or taken for
dead changes nothing when it comes back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import (
    JSON,
    ColumnElement,
    Update,
    case,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.core.ids import new_id
from app.db.base import now
from app.db.clock import now_ms
from app.db.invalidation_log import Change, record
from app.db.tables import JobRow, JobState
from app.db.tenancy import TenantSession

ACTIVE: tuple[JobState, ...] = ("queued", "running")


if TYPE_CHECKING:
    from hyperserve.types import Job

Document = dict[str, Any]
Effect = Callable[[TenantSession], Awaitable[None]]
MAX_ATTEMPTS = 3
LOST = {"code": "worker_lost", "detail": "The process that ran the job was lost at every attempt."}
_SPENT = JobRow.attempt >= JobRow.max_attempts

Values = dict[Any, Any]


@dataclass(frozen=True)
class Renewal:
    """The lease was renewed. `cancelled`: a client has asked to end the job."""

    cancelled: bool


@dataclass(frozen=True)
class Signals:
    """Reasons for a worker to act."""

    waiting: bool
    """There is a job to claim."""
    lapsed: bool
    """A lease ran out: `reap`."""
    cancelled: frozenset[str]
    """Its own jobs that a client has asked to end."""


async def enqueue(
    session: TenantSession,
    kind: str,
    payload: Document,
    *,
    subject: str | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    priority: int = 0,
    lane: str | None = None,
) -> JobRow:
    """Add a job, visible to workers when the caller's transaction commits.

    Jobs of one lane run one at a time, in the order of their transactions, if those hold a lock that they share.
    """
    values = {"id": new_id("job"), "kind": kind, "payload": payload, "subject": subject}
    run_at = now_ms() if lane is None else last_in(lane)
    settings = {"max_attempts": max_attempts, "priority": priority, "run_at": run_at, "lane": lane}
    statement = insert(JobRow).values(**values, **settings).returning(JobRow)
    job = (await session.scalars(statement)).one()
    await record(session, Change(session.tenant, "job", job.id))
    return job


async def ahead(session: TenantSession, job: JobRow) -> list[JobRow]:
    """Return the jobs of its lane that run or come before it, in order."""
    others = select(JobRow).where(JobRow.lane == job.lane, JobRow.state.in_(ACTIVE))
    return list(await session.scalars(others.where(JobRow.run_at < job.run_at).order_by(JobRow.run_at)))


async def active(session: TenantSession, lane: str) -> bool:
    """Return whether a job of the lane runs or waits."""
    return bool(await session.scalar(select(exists().where(JobRow.lane == lane, JobRow.state.in_(ACTIVE)))))


def behind() -> ColumnElement[bool]:
    """Return the condition that another job of the lane runs, or was queued before."""
    other = aliased(JobRow)
    before = (other.state == "queued") & (other.run_at < JobRow.run_at)
    return exists().where(other.lane == JobRow.lane, or_(other.state == "running", before))


def last_in(lane: str) -> ColumnElement[int]:
    """Return the `run_at` of a new last job of the lane: after all others, even if the clock has not moved."""
    last = select(func.max(JobRow.run_at)).where(JobRow.lane == lane, JobRow.state.in_(ACTIVE))
    after = func.coalesce(last.scalar_subquery(), 0) + 1
    return case((after > now_ms(), after), else_=now_ms())


async def signals(session: AsyncSession, owner: str, kinds: Collection[str]) -> Signals:
    """Look for reasons to act, without any lock, before the statements that take one."""
    here = select(JobRow.id)
    looked = select(
        exists(here.where(_waiting(kinds))).label("waiting"), exists(here.where(_lapsed())).label("lapsed")
    )
    found = (await session.execute(looked)).one()
    mine = (JobRow.state == "running", JobRow.lease_owner == owner, JobRow.cancel_requested == true())
    cancelled = await session.scalars(here.where(*mine))
    return Signals(found.waiting, found.lapsed, frozenset(cancelled))


async def reap(session: AsyncSession) -> list[JobRow]:
    """Take jobs whose lease ran out: back into the queue, dead after their last attempt, or cancelled if requested."""
    lapsed = select(JobRow.id).where(_lapsed()).with_for_update(skip_locked=True)
    return await _changed(session, update(JobRow).where(JobRow.id.in_(lapsed)).values(_given_up(_SPENT)))


async def claim(
    session: AsyncSession, owner: str, lease_ms: int, kinds: Collection[str] | None = None
) -> JobRow | None:
    """Return the next job, now running under a lease of `owner`; None if nothing waits."""
    await reap(session)
    first = (
        select(JobRow.id)
        .where(_waiting(kinds))
        .order_by(JobRow.priority.desc(), JobRow.run_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    values = {
        JobRow.state: "running",
        JobRow.attempt: JobRow.attempt + 1,
        JobRow.lease_owner: owner,
        JobRow.lease_token: JobRow.lease_token + 1,
        JobRow.lease_until: now_ms() + lease_ms,
        JobRow.sequence: JobRow.sequence + 1,
        JobRow.started_at: func.coalesce(JobRow.started_at, now()),
    }
    statement = update(JobRow).where(JobRow.id == first, JobRow.state == "queued").values(values)
    return await _row(session, statement)


async def renew(
    session: AsyncSession, id: str, token: int, lease_ms: int, progress: Document | None = None
) -> Renewal | None:
    """Extend a lease. Return None if it is lost: the child must end, as it can publish nothing any more."""
    values: Values = {JobRow.lease_until: now_ms() + lease_ms}
    if progress is not None:
        values |= {JobRow.progress: progress, JobRow.sequence: JobRow.sequence + 1}
    job = await _row(session, _held(id, token).values(values))
    return None if job is None else Renewal(job.cancel_requested)


async def finish(
    session: TenantSession,
    id: str,
    token: int,
    state: Literal["succeeded", "failed", "cancelled"],
    result: Document | None = None,
    error: Document | None = None,
    *,
    progress: Document | None = None,
    effect: Effect | None = None,
) -> bool:
    """Publish the end of a job and, in the same transaction, its effect.

    Return False, without any effect, if the lease is lost.
    """
    values = _ended() | {
        JobRow.state: state,
        JobRow.result: null() if result is None else result,
        JobRow.error: null() if error is None else error,
        JobRow.finished_at: now(),
    }
    if progress is not None:
        values[JobRow.progress] = progress
    job = await _row(session, _held(id, token).values(values))
    if job is None:
        return False
    if effect is not None:
        await effect(session)
    await record(session, Change(job.tenant, "job", id))
    return True


async def published(session: AsyncSession, id: str, token: int) -> bool:
    """Return whether the job ended under this token, as its worker had published."""
    ended = (JobRow.id == id, JobRow.lease_token == token, JobRow.state.not_in(ACTIVE))
    return bool(await session.scalar(select(exists().where(*ended))))


async def release(session: AsyncSession, id: str, token: int, *, blame: bool = True) -> JobRow | None:
    """Give a running job up, as a lapsed lease does. Return None if it has finished or the lease is lost.

    Without `blame` the attempt does not count: its worker stopped in order.
    """
    spent = {} if blame else {JobRow.max_attempts: JobRow.max_attempts + 1}
    last = _SPENT if blame else false()
    return next(iter(await _changed(session, _held(id, token).values(_given_up(last) | spent))), None)


async def request_cancel(session: TenantSession, id: str) -> JobRow | None:
    """Cancel a job at once if no worker runs it; otherwise ask its worker. Return None if it is unknown or finished."""
    idle = or_(JobRow.state == "queued", _lapsed())
    values = {
        JobRow.cancel_requested: True,
        JobRow.sequence: JobRow.sequence + 1,
        JobRow.state: case((idle, "cancelled"), else_=JobRow.state),
        JobRow.finished_at: case((idle, now()), else_=null()),
        JobRow.lease_token: case((idle, JobRow.lease_token + 1), else_=JobRow.lease_token),
        JobRow.lease_owner: case((idle, null()), else_=JobRow.lease_owner),
        JobRow.lease_until: case((idle, null()), else_=JobRow.lease_until),
    }
    mine = (JobRow.id == id, JobRow.state.in_(ACTIVE))
    return next(iter(await _changed(session, update(JobRow).where(*mine).values(values))), None)


async def get(session: TenantSession, id: str) -> JobRow | None:
    return (await session.scalars(select(JobRow).where(JobRow.id == id))).one_or_none()


async def page(
    session: TenantSession,
    before: str | None,
    limit: int,
    *,
    state: JobState | None = None,
    kind: str | None = None,
) -> list[JobRow]:
    """Return jobs, newest first, starting after the job `before`."""
    query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
    for column, value in ((JobRow.state, state), (JobRow.kind, kind)):
        query = query if value is None else query.where(column == value)
    return list(await session.scalars(query if before is None else query.where(JobRow.id < before)))


async def sequences(session: AsyncSession, ids: Collection[str]) -> dict[str, int]:
    """Return the sequence number of each job: it grows with every change that clients can see."""
    query = select(JobRow.id, JobRow.sequence).where(JobRow.id.in_(ids))
    return {row.id: row.sequence for row in await session.execute(query)}


def job_answer(row: JobRow) -> Job:
    # Imported here: the child process of a job does without the client and its types.
    from hyperserve.types import Job

    return Job.model_validate(row, from_attributes=True)


def _waiting(kinds: Collection[str] | None) -> ColumnElement[bool]:
    due = (JobRow.state == "queued") & (JobRow.run_at <= now_ms()) & (JobRow.lane.is_(None) | ~behind())
    return due if kinds is None else due & JobRow.kind.in_(kinds)


def _lapsed() -> ColumnElement[bool]:
    return (JobRow.state == "running") & (JobRow.lease_until < now_ms())


def _held(id: str, token: int) -> Update:
    """Return an update of the job under a token. A lapsed lease holds until another worker takes the job."""
    return update(JobRow).where(JobRow.id == id, JobRow.state == "running", JobRow.lease_token == token)


def _ended() -> Values:
    return {JobRow.lease_owner: None, JobRow.lease_until: None, JobRow.sequence: JobRow.sequence + 1}


def _given_up(last: ColumnElement[bool]) -> Values:
    cancelled = JobRow.cancel_requested == true()
    return _ended() | {
        JobRow.lease_token: JobRow.lease_token + 1,
        JobRow.state: case((cancelled, "cancelled"), (last, "dead"), else_="queued"),
        JobRow.error: case((cancelled, null()), (last, literal(LOST, JSON)), else_=null()),
        JobRow.finished_at: case((or_(cancelled, last), now()), else_=null()),
    }


async def _row(session: AsyncSession, statement: Update) -> JobRow | None:
    return next(iter(await _rows(session, statement)), None)


async def _rows(session: AsyncSession, statement: Update) -> list[JobRow]:
    options = {"synchronize_session": False, "populate_existing": True}
    return list(await session.scalars(statement.returning(JobRow), execution_options=options))


async def _changed(session: AsyncSession, statement: Update) -> list[JobRow]:
    """Return the rows that the statement changed, and record the changes for other processes."""
    jobs = await _rows(session, statement)
    await record(session, *(Change(job.tenant, "job", job.id) for job in jobs))
    return jobs
