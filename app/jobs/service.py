"""Jobs as clients see them: looked up, followed, cancelled. What they do is the worker's."""

from __future__ import annotations

from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError

from app.core.ids import is_id
from app.db.engine import Database
from app.http.pagination import Cursor
from app.http.problems import ProblemError, fail
from app.jobs import repository
from app.jobs.events import Followers
from app.jobs.repository import State, job_answer
from hyperserve.types import Job, Page

PREFIX = "job"


class JobService:
    """Every method raises `ProblemError` 404 for a job that the tenant does not have."""

    def __init__(self, database: Database, followers: Followers) -> None:
        self._database = database
        self._followers = followers

    async def get(self, tenant: str, job: str) -> Job:
        _check(job)
        async with self._database.read() as session:
            row = await repository.get(session, tenant, job)
        if row is None:
            raise _unknown()
        return job_answer(row)

    async def page(
        self, tenant: str, cursor: Cursor | None, limit: int, state: State | None, kind: str | None
    ) -> Page[Job]:
        before = None if cursor is None else cursor.after
        async with self._database.read() as session:
            rows = await repository.page(session, tenant, before, limit + 1, state=state, kind=kind)
        more = len(rows) > limit
        items = [job_answer(row) for row in rows[:limit]]
        return Page[Job](items=items, next_cursor=Cursor(items[-1].id).encode() if more else None)

    async def cancel(self, tenant: str, job: str) -> Job:
        """Raises `ProblemError` 409 where it has finished."""
        _check(job)
        async with self._database.write() as session:
            row = await repository.request_cancel(session, tenant, job)
            if row is not None:
                return job_answer(row)
            known = await repository.get(session, tenant, job)
        if known is None:
            raise _unknown()
        raise fail("job_finished", f"The job has {known.state}." if known.state != "dead" else "It is dead.")

    async def to_follow(self, tenant: str, job: str) -> Job:
        """To be asked before `follow`. Raises `ProblemError` 503 as well, where too many streams are open."""
        if self._followers.full:
            raise fail("busy", "Too many streams are open.", headers={"Retry-After": "5"})
        return await self.get(tenant, job)

    async def follow(self, tenant: str, job: str, after: int | None) -> AsyncIterator[tuple[int, Job]]:
        """The job with its sequence number at every change, its end included; then it ends.

        `after`: what the client has seen already. It also ends, before the job does, when the server stops."""
        with self._followers.follow(job, -1 if after is None else after) as follower:
            while not self._followers.closed:
                follower.changed.clear()
                try:
                    async with self._database.read() as session:
                        row = await repository.get(session, tenant, job)
                except (SQLAlchemyError, OSError):
                    # It is told again when the database is back.
                    await follower.changed.wait()
                    continue
                if row is None:
                    return
                if row.sequence > follower.sequence:
                    follower.sequence = row.sequence
                    yield row.sequence, job_answer(row)
                if row.state not in repository.ACTIVE:
                    return
                await follower.changed.wait()


def _check(job: str) -> None:
    """The database need not be asked, and PostgreSQL would refuse some texts."""
    if not is_id(job, PREFIX):
        raise _unknown()


def _unknown() -> ProblemError:
    return fail("job_not_found", "There is no such job.")
