"""Tasks: create, read, list, delete. Whoever calls, HTTP or the command line, calls these."""

from __future__ import annotations

from concurrent.futures import Executor

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.blobs import Blobs
from app.db.changes import record
from app.db.engine import Database
from app.db.tables import TaskRow, VersionRow
from app.http.body import Body
from app.http.etags import UNCONDITIONAL, Condition, etag
from app.http.idempotency import UNCLAIMED, Claim, forget
from app.http.pagination import Cursor
from app.ids import is_id, new_id
from app.learners.service import Learners
from app.serving.engine import Engine
from app.tasks import prepare, repository, schemas
from app.tasks.answers import page_bytes, task_answer, within_labels
from app.tasks.asking import Asking
from app.tasks.feedback import Feedback
from app.tasks.garbage import Collector
from app.tasks.heads import Heads
from app.tasks.news import purged
from app.tasks.prepare import PreparedSupport
from app.tasks.renewal import Renewer
from app.tasks.repository import StoredExample
from app.tasks.restore import Restorer, head_of, not_found
from app.tasks.revise import Revised, Reviser
from app.tasks.shared import Shared
from app.tasks.versions import Versions
from app.tasks.writer import Writer
from hyperserve.types import Task, Timing

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
