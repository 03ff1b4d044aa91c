"""Tasks: create, read, list, delete. Whoever calls, HTTP or the command line, calls these."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import is_id, new_id
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.invalidation_log import record
from app.db.tables import TaskRow, VersionRow
from app.http.body import Body
from app.http.etags import UNCONDITIONAL, Condition, etag
from app.http.idempotency import UNCLAIMED, Claim, forget
from app.http.pagination import Cursor
from app.http.problems import fail
from app.learners.service import Learners
from app.serving.engine import Engine
from app.tasks import prepare, repository, revisions, schemas
from app.tasks.cache import Heads, changed, purged
from app.tasks.dependencies import Shared, no_version
from app.tasks.feedback import Feedback
from app.tasks.garbage import Collector
from app.tasks.learner_migration import Renewer
from app.tasks.predict import Asking
from app.tasks.prepare import PreparedSupport, aim_of
from app.tasks.repository import StoredExample
from app.tasks.responses import page_bytes, task_answer, version_answer, within_labels
from app.tasks.revisions import Revised, Reviser, Terms
from app.tasks.weights import Restorer, head_of, not_found
from app.tasks.writer import Writer
from hyperserve.types import Example, Page, Task, Timing

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
        edit = partial(revisions.extended, addition=addition)
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
        edit = partial(revisions.redirected, example=example, aim=aim)
        return await self._reviser.revise(tenant, task, edit, Terms("edited", promote, condition), {})

    async def remove(
        self, tenant: str, task: str, example: str, promote: bool, condition: Condition
    ) -> Revised:
        """One example of the current version less; a class goes with its last one."""
        edit = partial(revisions.without, example=example)
        return await self._reviser.revise(tenant, task, edit, Terms("edited", promote, condition), {})

    async def promote(self, tenant: str, task: str, number: int, condition: Condition) -> Revised:
        """Makes a version current, be it newer or older."""
        async with self._shared.database.write() as session:
            row = await self._locked(session, tenant, task, condition)
            found = await repository.get_version(session, tenant, task, number)
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
            found = await repository.get_version(session, tenant, task, row.current)
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
            ways = await repository.ways_of_versions(session, tenant, task, before, limit + 1)
            if before is not None and not await repository.owns(session, tenant, task, before):
                raise fail("bad_cursor", "This is no next_cursor of this list.", "/cursor")
            ids = within_labels(ways, limit)
            rows = await repository.get_versions(session, tenant, ids)
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
            if cursor is not None and (other or not await repository.owns(session, tenant, task, version)):
                raise fail("bad_cursor", "This is no next_cursor of this list.", "/cursor")
            rows = await repository.page_examples(session, tenant, version, after, limit + 1)
        more = len(rows) > limit
        rows = rows[:limit]
        next_cursor = Cursor(f"{version}.{rows[-1][0]}").encode() if more else None
        return Page[Example](items=[example for _, example in rows], next_cursor=next_cursor)

    async def _locked(self, session: AsyncSession, tenant: str, task: str, condition: Condition) -> TaskRow:
        row = await repository.lock_task(session, tenant, task) if is_id(task, "task") else None
        if row is None:
            raise not_found()
        condition.check(row.revision)
        return row


def _place(cursor: str) -> tuple[str, int]:
    """Version and position."""
    version, _, position = Cursor.decode_name(cursor, _PLACE).after.partition(".")
    return version, int(position)


FEEDBACK_SECONDS = 7 * 86_400.0


class TaskService:
    """All that requests to tasks share in one process. Raises `ProblemError`, and what the engine raises."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        learners: Learners,
        engine: Engine,
        pool: Executor,
        heads: Heads,
        garbage: Collector,
        restorer: Restorer | None = None,
        prediction_seconds: float = FEEDBACK_SECONDS,
    ) -> None:
        restorer = restorer or Restorer(database, blobs, engine, pool)
        writer, renewer = Writer(database, blobs, garbage, restorer), Renewer(database, restorer)
        self._shared = shared = Shared(
            database, blobs, learners, engine, pool, heads, garbage, restorer, writer, renewer
        )
        reviser = Reviser(shared)
        self.versions = Versions(shared, reviser)
        self.feedback = Feedback(shared, reviser, prediction_seconds)
        self.asking = Asking(shared, self.feedback)

    async def create(
        self,
        tenant: str,
        body: Body,
        options: schemas.CreateOptions,
        timing: Timing,
        claim: Claim = UNCLAIMED,
    ) -> Task:
        """When it returns, the task is committed; when it raises, nothing is stored."""
        shared = self._shared
        asked, prepared = await shared.decode(timing, prepare.create, body, options, shared.learners)
        adapted = await shared.engine.adapt(prepared.artifact.name, prepared.support)
        timing |= adapted.timing
        support = prepared.support
        task = TaskRow(id=new_id("task"), tenant=tenant, name=asked.name, current=1, revision=1)
        version = VersionRow(
            id=new_id("ver"),
            tenant=tenant,
            task_id=task.id,
            number=1,
            learner=prepared.artifact.name,
            learner_digest=prepared.artifact.digest,
            seed=support.seed,
            classes=list(support.classes),
            shots=prepared.sent.shots,
            shape=list(support.x.shape[1:]),
            target=prepared.target,
        )
        examples = [
            StoredExample(label, prepared.kind, digest, target)
            for (label, target), (digest, _) in zip(prepared.sent.aims, prepared.blobs, strict=True)
        ]

        async def rows(session: AsyncSession) -> None:
            await repository.add_task(session, task, version, examples)
            headers = {"Location": f"/v1/tasks/{task.id}", "ETag": etag(task.revision)}
            await claim.keep(session, 201, _created(task, version, prepared, timing), headers, task.id)

        with shared.heads.reading(task.id) as reading:
            await shared.writer.version(version, dict(prepared.blobs), adapted.features, rows)
            if not reading.gone:
                head = head_of(task, version)
                shared.engine.admit(version.id, version.learner, adapted.weights)
                shared.heads.put(head, reading)
                shared.restorer.share(head, adapted.weights)
        return _created(task, version, prepared, timing)

    async def get(self, tenant: str, task: str, number: int | None = None) -> Revised:
        """As the current version has it, or another one."""
        async with self._shared.database.read() as session:
            found = await self._shared.find(session, tenant, task, number)
        return Revised(task_answer(*found), found[0].revision)

    async def page(self, tenant: str, cursor: Cursor | None, limit: int) -> bytes:
        """Newest first: a `Page[Task]` as JSON."""
        async with self._shared.database.read() as session:
            after = None if cursor is None else cursor.after
            ways = await repository.ways_of_tasks(session, tenant, after, limit + 1)
            ids = within_labels(ways, limit)
            rows = await repository.list_current(session, tenant, ids)
        following = Cursor(ids[-1]).encode() if len(ids) < len(ways) else None
        return await self._shared.off_loop(lambda: page_bytes([task_answer(*row) for row in rows], following))

    async def delete(self, tenant: str, task: str, condition: Condition = UNCONDITIONAL) -> None:
        """The task, its weights, its cached features and the inputs that no other task holds."""
        shared, removed = self._shared, None
        if is_id(task, "task"):
            async with shared.database.write() as session:
                removed = await repository.remove_task(session, tenant, task)
                if removed is not None:
                    condition.check(removed.revision)
                    await forget(session, tenant, task)
                    await record(session, purged(tenant, task, [id for _, id in removed.versions]))
        if removed is None:
            raise not_found()
        shared.heads.drop(task)
        for _, version in removed.versions:
            shared.engine.evict(version)
        await shared.restorer.unshare(tenant, removed.versions)
        await shared.blobs.delete_features(removed.versions)
        await shared.garbage.collect(tenant, removed.blobs)


def _created(task: TaskRow, version: VersionRow, prepared: PreparedSupport, timing: Timing) -> Task:
    return task_answer(task, version).model_copy(
        update={"timing": timing, "warnings": list(prepared.warnings)}
    )
