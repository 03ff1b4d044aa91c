"""Tasks and their versions: create, read, list, promote, rename, delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.core.ids import is_id, new_id
from app.db.invalidation_log import record
from app.db.tables import TaskRow, VersionRow
from app.db.tenancy import Store, TenantSession
from app.http.body import Body
from app.http.etags import UNCONDITIONAL, Condition, etag
from app.http.fields import PageOptions
from app.http.idempotency import UNCLAIMED, Claim, forget
from app.http.pagination import Cursor
from app.http.problems import ProblemError, fail
from app.payloads.warnings import fit_warnings
from app.tasks import prepare, repository, schemas
from app.tasks.cache import TaskVersionRef, task_changed, task_deleted
from app.tasks.function_family import misfit_warnings
from app.tasks.prepare import PreparedSupport
from app.tasks.repository import StoredExample, task_not_found
from app.tasks.resources import TaskResources, add_timing
from app.tasks.revisions import RevisedTask
from app.tasks.schemas import task_answer, version_answer
from app.tasks.weights import VersionWeights
from hyperserve.types import Answer, Example, Page, Task

PAGE_LABELS = 5_000
"""Labels of all items of a page: thousands of labels each would make it tens of megabytes."""
_EXAMPLE_CURSOR = r"ver_[0-9a-z]{26}\.[0-9]{1,9}"


@dataclass(frozen=True)
class TaskService:
    """Raises `ProblemError`, and what the engine raises."""

    resources: TaskResources
    store: Store

    async def create(self, body: Body, options: schemas.CreateOptions, claim: Claim = UNCLAIMED) -> Task:
        """Adapt a learner to a support set and store both. If it raises, nothing is stored."""
        (options, prepared), decoding = await self.resources.decode(
            prepare.create_task, body, options, self.resources.learners
        )
        engine, artifact = self.resources.runtime.engine, prepared.artifact
        adapted = await engine.adapt(artifact.name, prepared.support)
        misfit = await misfit_warnings(engine, artifact, adapted.weights, prepared.support)
        task = TaskRow(id=new_id("task"), name=options.name, current=1, revision=1)
        version = _first_version(task, prepared)
        examples = _examples(prepared)
        details = {
            "fit": adapted.fit,
            "timing": add_timing(decoding, adapted.timing),
            "warnings": [*prepared.warnings, *misfit, *fit_warnings(adapted.fit, "/support")],
        }

        async def rows(session: TenantSession) -> Task:
            await repository.add_task(session, task, version, examples)
            created = task_answer(task, version).model_copy(update=details)
            headers = {"Location": f"/v1/tasks/{task.id}", "ETag": etag(task.revision)}
            await claim.keep(session, 201, created, headers, task.id)
            return created

        weights = VersionWeights(self.resources, self.store)
        with self.resources.versions.reading(task.id) as read:
            created = await weights.write_version(version, dict(prepared.inputs), adapted.features, rows)
            weights.admit(TaskVersionRef.of(task, version), adapted.weights, read)
        return created

    async def get(self, task: str, number: int | None = None) -> RevisedTask:
        """Return a task as a version describes it, by default the current one."""
        async with self.store.read() as session:
            row, version = await repository.find_version(session, task, number)
        self._drop_older(row)
        return RevisedTask(task_answer(row, version), row.revision)

    async def page(self, options: PageOptions) -> bytes:
        """Return tasks, newest first: a `Page[Task]` as JSON."""
        after = None if options.cursor is None else Cursor.decode(options.cursor, "task").after
        async with self.store.read() as session:
            counts = await repository.class_counts_of_tasks(session, after, options.limit + 1)
            ids = _page_ids(counts, options.limit)
            rows = await repository.list_current(session, ids)
        self._drop_older(*(row for row, _ in rows))
        cursor = Cursor(ids[-1]).encode() if len(ids) < len(counts) else None
        return await self.resources.runtime.in_decoder(
            lambda: _page_bytes([task_answer(*row) for row in rows], cursor)
        )

    async def delete(self, task: str, condition: Condition = UNCONDITIONAL) -> None:
        """Delete a task, its weights, its cached features, and the inputs that no other task has."""
        removed = None
        if is_id(task, "task"):
            async with self.store.write() as session:
                removed = await repository.remove_task(session, task)
                if removed is not None:
                    condition.check(removed.revision)
                    await forget(session, task)
                    versions = [version for _, version in removed.versions]
                    await record(session, task_deleted(self.store.tenant, task, versions))
        if removed is None:
            raise task_not_found()
        self.resources.versions.drop(task)
        for _, version in removed.versions:
            self.resources.runtime.engine.evict(version)
        await VersionWeights(self.resources, self.store).unshare(removed.versions)
        await self.store.all_blobs.delete_features(removed.versions)
        collector = self.resources.runtime.collector
        await collector.collect(self.store.tenant, repository.INPUTS, removed.blobs)

    async def promote(self, task: str, request: schemas.Promote, condition: Condition) -> RevisedTask:
        """Make a version the current one, whether it is newer or older."""
        async with self.store.write() as session:
            row = await self._locked(session, task, condition)
            _, version = await repository.find_version(session, task, request.version)
            if row.current != version.number:
                row.current, row.revision = version.number, row.revision + 1
                await session.flush()
                await record(session, task_changed(row))
        self.resources.versions.drop(task, row.revision)
        return RevisedTask(task_answer(row, version), row.revision)

    async def rename(self, task: str, request: schemas.Rename, condition: Condition) -> RevisedTask:
        """Give a task another name, or none."""
        async with self.store.write() as session:
            row = await self._locked(session, task, condition)
            _, version = await repository.find_version(session, task)
            if row.name != request.name:
                row.name, row.revision = request.name, row.revision + 1
                await session.flush()
                await record(session, task_changed(row))
        self.resources.versions.drop(task, row.revision)
        return RevisedTask(task_answer(row, version), row.revision)

    async def page_of_versions(self, task: str, options: PageOptions) -> bytes:
        """Return versions of a task, newest first: a `Page[Version]` as JSON."""
        before = None if options.cursor is None else Cursor.decode(options.cursor, "ver").after
        async with self.store.read() as session:
            row, _ = await repository.find_version(session, task)
            counts = await repository.class_counts_of_versions(session, task, before, options.limit + 1)
            if before is not None and not await repository.has_version(session, task, before):
                raise _bad_cursor()
            ids = _page_ids(counts, options.limit)
            versions = await repository.list_versions(session, ids)
        self._drop_older(row)
        cursor = Cursor(ids[-1]).encode() if len(ids) < len(counts) else None
        return await self.resources.runtime.in_decoder(
            lambda: _page_bytes([version_answer(row, version) for version in versions], cursor)
        )

    async def page_of_examples(self, task: str, options: schemas.ExamplesOptions) -> Page[Example]:
        """Return examples of a version in order. A cursor stays with its version, even if another becomes current.

        Raises `ProblemError` 422 for a cursor of another version than the one that is named.
        """
        number, cursor, limit = options.version, options.cursor, options.limit
        async with self.store.read() as session:
            row, named = await repository.find_version(session, task, number)
            version, after = (named.id, -1) if cursor is None else _decode_example_cursor(cursor)
            other = number is not None and version != named.id
            if cursor is not None and (other or not await repository.has_version(session, task, version)):
                raise _bad_cursor()
            rows = await repository.page_examples(session, version, after, limit + 1)
        self._drop_older(row)
        more = len(rows) > limit
        rows = rows[:limit]
        next_cursor = Cursor(f"{version}.{rows[-1][0]}").encode() if more else None
        return Page[Example](items=[example for _, example in rows], next_cursor=next_cursor)

    def _drop_older(self, *rows: TaskRow) -> None:
        """Forget versions older than what an answer tells: from then on, no older one answers here."""
        for row in rows:
            self.resources.versions.drop(row.id, row.revision)

    async def _locked(self, session: TenantSession, task: str, condition: Condition) -> TaskRow:
        row = await repository.lock_task(session, task) if is_id(task, "task") else None
        if row is None:
            raise task_not_found()
        condition.check(row.revision)
        return row


def _first_version(task: TaskRow, prepared: PreparedSupport) -> VersionRow:
    return VersionRow(
        id=new_id("ver"),
        task_id=task.id,
        number=1,
        learner=prepared.artifact.name,
        learner_digest=prepared.artifact.digest,
        seed=prepared.support.seed,
        classes=list(prepared.support.classes),
        shots=prepared.submitted.shots,
        shape=list(prepared.support.x.shape[1:]),
        target=prepared.target,
    )


def _examples(prepared: PreparedSupport) -> list[StoredExample]:
    kind = prepared.artifact.config.input.kind
    pairs = enumerate(zip(prepared.submitted.truths, prepared.inputs, strict=True))
    return [
        StoredExample(position, new_id("ex"), truth.label, kind, blob, target=truth.target)
        for position, (truth, (blob, _)) in pairs
    ]


def _page_ids(class_counts: Sequence[tuple[str, int]], limit: int) -> list[str]:
    """Return ids of the first rows, each of some classes, that make one page: at least one if there is any."""
    ids: list[str] = []
    labels = 0
    for id, count in class_counts[:limit]:
        labels += count
        if ids and labels > PAGE_LABELS:
            break
        ids.append(id)
    return ids


def _page_bytes(items: Sequence[Answer], next_cursor: str | None) -> bytes:
    """Return a page as JSON. Runs off the event loop."""
    return Page[Any](items=list(items), next_cursor=next_cursor).model_dump_json().encode()


def _decode_example_cursor(cursor: str) -> tuple[str, int]:
    """Return the id of a version and a position in it."""
    version, _, position = Cursor.decode_name(cursor, _EXAMPLE_CURSOR).after.partition(".")
    return version, int(position)


def _bad_cursor() -> ProblemError:
    return fail("bad_cursor", "This is no next_cursor of this list.", "/cursor")
