"""Tasks that live on: examples come, go and change their labels; versions are promoted and rolled back."""

from __future__ import annotations

from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.changes import record
from app.db.tables import TaskRow
from app.http.body import Body
from app.http.etags import Condition
from app.http.idempotency import Claim
from app.http.pagination import Cursor
from app.http.problems import fail
from app.ids import is_id
from app.tasks import drafts, history, prepare, schemas
from app.tasks.answers import page_bytes, task_answer, version_answer, within_labels
from app.tasks.news import changed
from app.tasks.restore import not_found
from app.tasks.revise import Revised, Reviser, Terms
from app.tasks.shared import Shared, no_version
from app.tasks.wanted import aim_of
from hyperserve.types import Example, Page, Timing

_PLACE = r"ver_[0-9a-z]{26}\.[0-9]{1,9}"


class Versions:
    """All that changes a task, and its history. Raises `ProblemError`, and what the engine raises."""

    def __init__(self, shared: Shared, reviser: Reviser) -> None:
        self._shared = shared
        self._reviser = reviser

    async def add(
        self,
        tenant: str,
        task: str,
        body: Body,
        options: schemas.PromoteOption,
        condition: Condition,
        timing: Timing,
        claim: Claim,
    ) -> tuple[Revised, bool]:
        """More examples, of old classes or of new ones; and whether that version is now current."""
        shared = self._shared
        head = await shared.head(tenant, task)
        artifact = await shared.artifact(head.learner)
        asked, addition = await shared.decode(timing, prepare.addition, body, options, artifact, head)
        edit = partial(drafts.extended, addition=addition)
        terms = Terms("support", asked.promote, condition, claim)
        return await self._reviser.revise(tenant, task, edit, terms, timing), asked.promote

    async def redirect(
        self,
        tenant: str,
        task: str,
        example: str,
        wanted: schemas.Wanted,
        promote: bool,
        condition: Condition,
    ) -> Revised:
        """Another label, or another target, for one example of the current version."""
        aim = aim_of(wanted, await self._shared.head(tenant, task))
        edit = partial(drafts.redirected, example=example, aim=aim)
        return await self._reviser.revise(tenant, task, edit, Terms("edited", promote, condition), {})

    async def remove(
        self, tenant: str, task: str, example: str, promote: bool, condition: Condition
    ) -> Revised:
        """One example of the current version less; a class goes with its last one."""
        edit = partial(drafts.without, example=example)
        return await self._reviser.revise(tenant, task, edit, Terms("edited", promote, condition), {})

    async def promote(self, tenant: str, task: str, number: int, condition: Condition) -> Revised:
        """Makes a version current, be it newer or older."""
        async with self._shared.database.write() as session:
            row = await self._locked(session, tenant, task, condition)
            found = await history.get_version(session, tenant, task, number)
            if found is None:
                raise no_version()
            if row.current != number:
                row.current, row.revision = number, row.revision + 1
                await session.flush()
                await record(session, changed(row))
        self._shared.heads.drop(task, row.revision)
        return Revised(task_answer(row, found[1]), row.revision)

    async def rename(self, tenant: str, task: str, name: str | None, condition: Condition) -> Revised:
        async with self._shared.database.write() as session:
            row = await self._locked(session, tenant, task, condition)
            found = await history.get_version(session, tenant, task, row.current)
            assert found is not None
            if row.name != name:
                row.name, row.revision = name, row.revision + 1
                await session.flush()
                await record(session, changed(row))
        self._shared.heads.drop(task, row.revision)
        return Revised(task_answer(row, found[1]), row.revision)

    async def page(self, tenant: str, task: str, cursor: str | None, limit: int) -> bytes:
        """Versions, newest first: a `Page[Version]` as JSON."""
        before = None if cursor is None else Cursor.decode(cursor, "ver").after
        async with self._shared.database.read() as session:
            found = await self._shared.find(session, tenant, task)
            ways = await history.ways_of_versions(session, tenant, task, before, limit + 1)
            if before is not None and not await history.owns(session, tenant, task, before):
                raise fail("bad_cursor", "This is no next_cursor of this list.", "/cursor")
            ids = within_labels(ways, limit)
            rows = await history.get_versions(session, tenant, ids)
        more = len(ids) < len(ways)
        cursor = Cursor(ids[-1]).encode() if more else None
        return await self._shared.off_loop(
            lambda: page_bytes([version_answer(found[0], row) for row in rows], cursor)
        )

    async def support(
        self, tenant: str, task: str, number: int | None, cursor: str | None, limit: int
    ) -> Page[Example]:
        """Examples of a version in order. The cursor stays with its version, whatever is current by then.

        Raises `ProblemError` 422 for a cursor of another version than the one that is named.
        """
        async with self._shared.database.read() as session:
            found = await self._shared.find(session, tenant, task, number)
            version, after = (found[1].id, -1) if cursor is None else _place(cursor)
            other = number is not None and version != found[1].id
            if cursor is not None and (other or not await history.owns(session, tenant, task, version)):
                raise fail("bad_cursor", "This is no next_cursor of this list.", "/cursor")
            rows = await history.page_examples(session, tenant, version, after, limit + 1)
        more = len(rows) > limit
        rows = rows[:limit]
        next_cursor = Cursor(f"{version}.{rows[-1][0]}").encode() if more else None
        return Page[Example](items=[example for _, example in rows], next_cursor=next_cursor)

    async def _locked(self, session: AsyncSession, tenant: str, task: str, condition: Condition) -> TaskRow:
        row = await history.lock_task(session, tenant, task) if is_id(task, "task") else None
        if row is None:
            raise not_found()
        condition.check(row.revision)
        return row


def _place(cursor: str) -> tuple[str, int]:
    """Version and position."""
    version, _, position = Cursor.decode_name(cursor, _PLACE).after.partition(".")
    return version, int(position)
