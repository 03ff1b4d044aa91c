"""Tasks: create, read, list, delete, ask. Whoever calls, HTTP or the command line, calls these."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
from safetensors import numpy as safetensors
from sqlalchemy.exc import OperationalError

from app.db.blobs import BlobMissingError, Blobs
from app.db.engine import Database
from app.db.tables import TaskRow, VersionRow
from app.http.body import Body
from app.http.pagination import Cursor
from app.http.problems import fail
from app.ids import is_id, new_id
from app.learners.service import Learners
from app.serving.engine import Engine
from app.serving.types import SupportSet
from app.tasks import prepare, repository, schemas
from app.tasks.answers import predictions
from app.tasks.garbage import Collector
from app.tasks.heads import Head, Heads
from app.tasks.inputs import redecode
from app.tasks.repository import StoredExample
from hyperserve.types import Page, Predictions, Task, Timing
from models.artifact import Artifact
from models.inputs import raw_from
from models.protocol import TaskWeights

P = ParamSpec("P")
R = TypeVar("R")


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
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._learners = learners
        self._engine = engine
        self._pool = pool
        self._heads = heads
        self._garbage = garbage

    async def create(self, tenant: str, body: Body, options: schemas.CreateOptions, timing: Timing) -> Task:
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
        await self._store(task, version, prepared, adapted.features)
        self._engine.admit(version.id, version.learner, adapted.weights)
        self._heads.put(_head(task, version))
        return _task(task, version).model_copy(update={"timing": timing, "warnings": list(prepared.warnings)})

    async def get(self, tenant: str, task: str) -> Task:
        async with self._database.read() as session:
            found = await repository.get_current(session, tenant, task) if is_id(task, "task") else None
        if found is None:
            raise _not_found()
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
        if removed is None:
            raise _not_found()
        self._heads.drop(task)
        for _, version in removed.versions:
            self._engine.evict(version)
        await self._blobs.delete_features(removed.versions)
        await self._garbage.collect(tenant, removed.blobs)

    async def predict(
        self, tenant: str, task: str, body: Body, options: schemas.PredictOptions, timing: Timing
    ) -> Predictions:
        head = await self.head(tenant, task)
        artifact = self._artifact(head)
        asked, queries = await self._decode(timing, prepare.predict, body, options, artifact, head)
        answers = await self._engine.predict(
            head.version,
            head.learner,
            queries.x,
            samples=asked.samples,
            regenerate=partial(self._regenerate, head, artifact),
        )
        timing |= answers.timing
        found = predictions(answers.predictive, head.classes, coverage=asked.coverage, top=asked.top)
        return Predictions(
            task=head.task, version=head.number, learner=head.learner, predictions=found, timing=timing
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
        found = predictions(
            answers.predictive, prepared.support.classes, coverage=asked.coverage, top=asked.top
        )
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
        async with self._database.read() as session:
            found = await repository.get_current(session, tenant, task) if is_id(task, "task") else None
        if found is None:
            raise _not_found()
        head = _head(*found)
        self._heads.put(head)
        return head

    def _artifact(self, head: Head) -> Artifact:
        artifact = self._learners.artifacts.get(head.learner)
        if artifact is None or artifact.digest != head.learner_digest:
            raise fail(
                "learner_unavailable", "The learner that the task is pinned to is not served any more."
            )
        return artifact

    async def _decode(self, timing: Timing, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        started = time.perf_counter()
        answer = await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **kwargs))
        timing["decode"] = (time.perf_counter() - started) * 1e3
        return answer

    async def _store(
        self, task: TaskRow, version: VersionRow, prepared: prepare.PreparedSupport, features: np.ndarray
    ) -> None:
        """Blobs first, rows last; a failure takes back what was written."""
        classes = prepared.support.classes
        examples = [
            StoredExample(classes[target], prepared.kind, digest)
            for target, (digest, _) in zip(prepared.support.y, prepared.blobs, strict=True)
        ]
        blobs = dict(prepared.blobs)
        try:
            await self._blobs.put_missing(task.tenant, blobs)
            await self._blobs.put_features(
                version.learner_digest, version.id, safetensors.save({"features": features})
            )
            async with self._database.write() as session:
                await repository.lock_blobs(session)
                # Someone may have deleted a blob that was there before, together with its last task.
                await self._blobs.put_missing(task.tenant, blobs)
                await repository.add_task(session, task, version, examples)
        except BaseException as error:
            await self._blobs.delete_features([(version.learner_digest, version.id)])
            # A database too busy to commit is too busy to say which blobs are others' as well.
            collect = self._garbage.later if isinstance(error, OperationalError) else self._garbage.collect
            await collect(task.tenant, blobs)
            raise

    async def _regenerate(self, head: Head, artifact: Artifact) -> TaskWeights:
        """The weights of a version again, from cached features or else from the raw inputs."""
        async with self._database.read() as session:
            examples = await repository.get_examples(session, head.tenant, head.version)
        if not examples:
            self._heads.drop(head.task)
            raise _not_found()
        index = {label: position for position, label in enumerate(head.classes)}
        y = np.array([index[example.label] for example in examples], dtype=np.int64)
        cached = await self._blobs.get_features(head.learner_digest, head.version)
        if cached is not None:
            features = safetensors.load(cached)["features"]
            x = np.empty((len(y), *head.shape), np.float32)
            return (
                await self._engine.adapt(head.learner, SupportSet(x, y, head.classes, head.seed), features)
            ).weights
        try:
            data = await self._blobs.get(head.tenant, [example.blob for example in examples])
        except BlobMissingError:
            raise _not_found() from None
        raws = [raw_from(example.kind, bytes_) for example, bytes_ in zip(examples, data, strict=True)]
        loop = asyncio.get_running_loop()
        x = await loop.run_in_executor(self._pool, redecode, raws, artifact.config.input)
        adapted = await self._engine.adapt(head.learner, SupportSet(x, y, head.classes, head.seed))
        await self._blobs.put_features(
            head.learner_digest, head.version, safetensors.save({"features": adapted.features})
        )
        return adapted.weights


def _not_found() -> Exception:
    return fail("task_not_found", "There is no such task.")


def _head(task: TaskRow, version: VersionRow) -> Head:
    return Head(
        task.tenant,
        task.id,
        version.id,
        version.number,
        version.learner,
        version.learner_digest,
        version.seed,
        tuple(version.classes),
        tuple(version.shape),
    )


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
