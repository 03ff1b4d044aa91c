"""Tasks: create, read, list, delete, ask. Whoever calls, HTTP or the command line, calls these."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from app.db.blobs import Blobs
from app.db.changes import record
from app.db.engine import Database
from app.db.tables import TaskRow, VersionRow
from app.http.body import Body
from app.http.idempotency import UNCLAIMED, Claim
from app.http.pagination import Cursor
from app.http.problems import fail
from app.ids import is_id, new_id
from app.learners.service import Learners
from app.serving.engine import Engine
from app.serving.types import Answers
from app.tasks import prepare, repository, schemas
from app.tasks.answers import predictions
from app.tasks.garbage import BUSY, Collector
from app.tasks.heads import Head, Heads
from app.tasks.news import purged
from app.tasks.prepare import PreparedSupport
from app.tasks.repository import StoredExample
from app.tasks.restore import Restorer, head_of, not_found
from hyperserve.types import Notice, Page, Prediction, Predictions, Task, Timing
from models.artifact import Artifact

P = ParamSpec("P")
R = TypeVar("R")

LONG_ANSWER = 20_000
"""Probabilities in an answer from which on making it would hold up other requests."""


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
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._learners = learners
        self._engine = engine
        self._pool = pool
        self._heads = heads
        self._garbage = garbage
        self._restorer = restorer or Restorer(database, blobs, engine, pool)

    async def create(
        self,
        tenant: str,
        body: Body,
        options: schemas.CreateOptions,
        timing: Timing,
        claim: Claim = UNCLAIMED,
    ) -> Task:
        """When it returns, the task is committed; when it raises, nothing is stored."""
        asked, prepared = await self._decode(timing, prepare.create, body, options, self._learners)
        adapted = await self._engine.adapt(prepared.artifact.name, prepared.support)
        timing |= adapted.timing
        support = prepared.support
        task = TaskRow(id=new_id("task"), tenant=tenant, name=asked.name, current=1)
        version = VersionRow(
            id=new_id("ver"),
            tenant=tenant,
            task_id=task.id,
            number=1,
            learner=prepared.artifact.name,
            learner_digest=prepared.artifact.digest,
            seed=support.seed,
            classes=list(support.classes),
            shots=prepared.shots,
            shape=list(support.x.shape[1:]),
        )
        with self._heads.reading(task.id) as reading:
            await self._store(task, version, prepared, adapted.features, claim, timing)
            if not reading.gone:
                head = head_of(task, version)
                self._engine.admit(version.id, version.learner, adapted.weights)
                self._heads.put(head, reading)
                self._restorer.share(head, adapted.weights)
        return _created(task, version, prepared, timing)

    async def get(self, tenant: str, task: str) -> Task:
        async with self._database.read() as session:
            found = await repository.get_current(session, tenant, task) if is_id(task, "task") else None
        if found is None:
            raise not_found()
        return _task(*found)

    async def page(self, tenant: str, cursor: Cursor | None, limit: int) -> Page[Task]:
        """Newest first."""
        async with self._database.read() as session:
            rows = await repository.list_current(
                session, tenant, None if cursor is None else cursor.after, limit + 1
            )
        more = len(rows) > limit
        items = [_task(*row) for row in rows[:limit]]
        return Page[Task](items=items, next_cursor=Cursor(items[-1].id).encode() if more else None)

    async def delete(self, tenant: str, task: str) -> None:
        """The task, its weights, its cached features and the inputs that no other task holds."""
        removed = None
        if is_id(task, "task"):
            async with self._database.write() as session:
                removed = await repository.remove_task(session, tenant, task)
                if removed is not None:
                    await record(session, purged(tenant, task, [id for _, id in removed.versions]))
        if removed is None:
            raise not_found()
        self._heads.drop(task)
        for _, version in removed.versions:
            self._engine.evict(version)
        await self._restorer.unshare(tenant, removed.versions)
        await self._blobs.delete_features(removed.versions)
        await self._garbage.collect(tenant, removed.blobs)

    async def predict(
        self, tenant: str, task: str, body: Body, options: schemas.PredictOptions, timing: Timing
    ) -> Predictions:
        head, artifact, notices = await self._served(await self.head(tenant, task))
        asked, queries = await self._decode(timing, prepare.predict, body, options, artifact, head)
        answers = await self._engine.predict(
            head.version,
            head.learner,
            queries.x,
            samples=asked.samples,
            regenerate=partial(self._restorer.weights, head, artifact),
        )
        timing |= answers.timing
        found = await self._predictions(answers, len(queries.x), head.classes, asked)
        return Predictions(
            task=head.task,
            version=head.number,
            learner=head.learner,
            predictions=found,
            timing=timing,
            warnings=notices,
        )

    async def predict_once(
        self, body: Body, options: schemas.PredictOnceOptions, timing: Timing
    ) -> Predictions:
        """Nothing is stored."""
        asked, prepared, queries = await self._decode(
            timing, prepare.predict_once, body, options, self._learners
        )
        name = prepared.artifact.name
        adapted = await self._engine.adapt(name, prepared.support)
        answers = await self._engine.predict_once(name, adapted.weights, queries.x, samples=asked.samples)
        for phase, spent in (*adapted.timing.items(), *answers.timing.items()):
            timing[phase] = timing.get(phase, 0.0) + spent
        found = await self._predictions(answers, len(queries.x), prepared.support.classes, asked)
        return Predictions(
            task=None,
            version=None,
            learner=name,
            predictions=found,
            timing=timing,
            warnings=list(prepared.warnings),
        )

    async def head(self, tenant: str, task: str) -> Head:
        """From memory when it is there, else from the database."""
        if head := self._heads.get(tenant, task):
            return head
        with self._heads.reading(task) as reading:
            async with self._database.read() as session:
                found = await repository.get_current(session, tenant, task) if is_id(task, "task") else None
            if found is None:
                raise not_found()
            head = head_of(*found)
            self._heads.put(head, reading)
        return head

    async def _served(self, head: Head) -> tuple[Head, Artifact, list[Notice]]:
        """The version to ask and its learner. Where a release replaced the learner, that is a new version."""
        artifact = self._learners.artifacts.get(head.learner)
        if artifact is None:
            raise fail(
                "learner_unavailable", f"The learner {head.learner} of the task is not served any more."
            )
        if artifact.digest == head.learner_digest:
            return head, artifact, []
        with self._heads.reading(head.task) as reading:
            renewed = await self._restorer.renew(head, artifact)
            self._heads.put(renewed, reading)
        detail = (
            f"The learner was replaced: version {renewed.number} holds the same examples under the new one."
        )
        return renewed, artifact, [Notice(code="learner_replaced", detail=detail)]

    async def _predictions(
        self, answers: Answers, queries: int, classes: Sequence[str], asked: schemas.PredictOptions
    ) -> list[Prediction]:
        work = partial(predictions, answers.predictive, classes, coverage=asked.coverage, top=asked.top)
        if queries * len(classes) < LONG_ANSWER:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _decode(self, timing: Timing, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        started = time.perf_counter()
        answer = await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **kwargs))
        timing["decode"] = (time.perf_counter() - started) * 1e3
        return answer

    async def _store(
        self,
        task: TaskRow,
        version: VersionRow,
        prepared: PreparedSupport,
        features: npt.NDArray[np.float32],
        claim: Claim,
        timing: Timing,
    ) -> None:
        """Blobs first, rows last; a failure takes back what was written."""
        classes = prepared.support.classes
        examples = [
            StoredExample(classes[target], prepared.kind, digest)
            for target, (digest, _) in zip(prepared.targets, prepared.blobs, strict=True)
        ]
        blobs = dict(prepared.blobs)
        try:
            await self._blobs.put_missing(task.tenant, blobs)
            await self._restorer.keep_features(version.learner_digest, version.id, features)
            async with self._database.write() as session:
                await repository.lock_blobs(session)
                # Someone may have deleted a blob that was there before, together with its last task.
                await self._blobs.put_missing(task.tenant, blobs)
                await repository.add_task(session, task, version, examples)
                answer = _created(task, version, prepared, timing)
                await claim.keep(session, 201, answer, {"Location": f"/v1/tasks/{task.id}"})
        except BaseException as error:
            await self._blobs.delete_features([(version.learner_digest, version.id)])
            # A database too busy to commit is too busy to say which blobs are others' as well.
            if isinstance(error, BUSY):
                self._garbage.later(task.tenant, blobs)
            else:
                await self._garbage.collect(task.tenant, blobs)
            raise


def _created(task: TaskRow, version: VersionRow, prepared: PreparedSupport, timing: Timing) -> Task:
    return _task(task, version).model_copy(update={"timing": timing, "warnings": list(prepared.warnings)})


def _task(task: TaskRow, version: VersionRow) -> Task:
    return Task(
        id=task.id,
        name=task.name,
        version=version.number,
        learner=version.learner,
        learner_digest=version.learner_digest[:16],
        classes=version.classes,
        shots=dict(zip(version.classes, version.shots, strict=True)),
        created_at=task.created_at,
    )
