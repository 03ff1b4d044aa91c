"""Jobs as clients see them: read, followed, cancelled. Workers do their work.

No answer says that a job has succeeded before this process has applied the changes that it made: from then on
the version, the forgetting or the learner that the job published answers here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from app.core.ids import is_id
from app.db.errors import DatabaseError
from app.db.invalidation_log import ChangeWatcher, UndeliveredError
from app.db.tables import JobRow
from app.db.tenancy import Store
from app.http.pagination import Cursor
from app.http.problems import ProblemError, fail
from app.jobs import repository
from app.jobs.events import Followers
from app.jobs.repository import job_answer
from app.jobs.schemas import JobsOptions
from hyperserve.types import Job, Page

PREFIX = "job"


@dataclass(frozen=True)
class JobService:
    """Every method raises `ProblemError` 404 for a job that the tenant does not have, and `DatabaseError`; those
    that read jobs raise `UndeliveredError` if this process cannot apply now what a job has changed."""

    followers: Followers
    watcher: ChangeWatcher
    store: Store

    async def get(self, job: str) -> Job:
        _check_id(job)
        async with self.store.read() as session:
            row = await repository.get(session, job)
        if row is None:
            raise _not_found()
        await self._apply([row])
        return job_answer(row)

    async def page(self, options: JobsOptions) -> Page[Job]:
        """Newest first."""
        before = None if options.cursor is None else Cursor.decode(options.cursor, PREFIX).after
        state, kind = options.state, options.kind
        async with self.store.read() as session:
            rows = await repository.page(session, before, options.limit + 1, state=state, kind=kind)
        await self._apply(rows)
        more = len(rows) > options.limit
        items = [job_answer(row) for row in rows[: options.limit]]
        return Page[Job](items=items, next_cursor=Cursor(items[-1].id).encode() if more else None)

    async def cancel(self, job: str) -> Job:
        """Raises `ProblemError` 409 if it has finished."""
        _check_id(job)
        async with self.store.write() as session:
            row = await repository.request_cancel(session, job)
            if row is not None:
                return job_answer(row)
            known = await repository.get(session, job)
        if known is None:
            raise _not_found()
        ended = "was lost at its last attempt" if known.state == "dead" else f"has {known.state}"
        raise fail("job_finished", f"The job {ended}; only a queued or running job can be cancelled.")

    async def check_followable(self, job: str) -> Job:
        """Return the job, before `follow`. Raises `ProblemError` 503 as well, if too many streams are open."""
        if self.followers.full:
            raise fail("busy", "Too many event streams are open.", headers={"Retry-After": "5"})
        return await self.get(job)

    async def follow(self, job: str, after: int | None) -> AsyncIterator[tuple[int, Job]]:
        """Yield the job with its sequence number at every change, including its end.

        `after` is the sequence number that the client has seen already. The iteration also ends, before the job
        does, when the server stops.
        """
        with self.followers.follow(job, -1 if after is None else after) as follower:
            while not self.followers.closed:
                follower.changed.clear()
                try:
                    async with self.store.read() as session:
                        row = await repository.get(session, job)
                    await self._apply([] if row is None else [row])
                except (DatabaseError, UndeliveredError):
                    # The follower is woken again when the database is back, and every second until it has told all.
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

    async def _apply(self, rows: Sequence[JobRow]) -> None:
        """Apply what jobs that have succeeded changed, before anyone is told. It was committed with their end."""
        if any(row.state == "succeeded" for row in rows):
            await self.watcher.catch_up()


def _check_id(job: str) -> None:
    """Spare the database; PostgreSQL would refuse some texts."""
    if not is_id(job, PREFIX):
        raise _not_found()


def _not_found() -> ProblemError:
    return fail("job_not_found", "There is no such job.")
