"""Weights that are no longer in memory, made again from what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from app.db.blobs import BlobMissingError, Blobs
from app.db.engine import Database
from app.db.tables import TaskRow, VersionRow
from app.http.problems import ProblemError, fail
from app.ids import new_id
from app.serving.engine import Engine
from app.serving.types import Adapted, SupportSet
from app.tasks import repository
from app.tasks.heads import Head
from app.tasks.inputs import redecode
from app.tasks.repository import StoredExample
from models.artifact import Artifact
from models.inputs import InputError, raw_from
from models.protocol import TaskWeights

FEATURES = "features"


class Restorer:
    """Raw inputs are the truth; features of one learner are a cache beside them.

    Raises `ProblemError`, and `BlobMissingError` where raw inputs are lost.
    """

    def __init__(self, database: Database, blobs: Blobs, engine: Engine, pool: Executor) -> None:
        self._database = database
        self._blobs = blobs
        self._engine = engine
        self._pool = pool
        self._renewing: dict[str, asyncio.Task[Head]] = {}

    async def keep_features(self, learner: str, version: str, features: npt.NDArray[np.float32]) -> None:
        """`learner` is a digest."""
        await self._blobs.put_features(learner, version, safetensors.save({FEATURES: features}))

    async def weights(self, head: Head, artifact: Artifact) -> TaskWeights:
        """Of a version whose learner is served, from cached features or else from the raw inputs."""
        examples = await self._examples(head)
        features = await self._features(head, len(examples))
        if features is None:
            adapted = await self._adapt(head, artifact, examples)
            await self._keep_features(head, adapted.features)
            return adapted.weights
        # Not read by the engine, so never filled.
        x = np.empty((len(examples), *head.shape), np.float32)
        return (await self._engine.adapt(head.learner, _support(head, examples, x), features)).weights

    async def renew(self, head: Head, artifact: Artifact) -> Head:
        """The same examples under the learner that is served now: a new version, and the current one."""
        # Until it is ours: another process, with yet another learner, may have been faster.
        while head.learner_digest != artifact.digest:
            head = await self._renewed(head, artifact)
        return head

    async def _renewed(self, head: Head, artifact: Artifact) -> Head:
        flight = self._renewing.get(head.version)
        if flight is None:
            flight = self._renewing[head.version] = asyncio.create_task(self._renew(head, artifact))
            flight.add_done_callback(lambda _: self._renewing.pop(head.version, None))
        # Shielded: others wait for it too.
        return await asyncio.shield(flight)

    async def _renew(self, head: Head, artifact: Artifact) -> Head:
        examples = await self._examples(head)
        adapted = await self._adapt(head, artifact, examples)
        async with self._database.write() as session:
            current = await repository.get_current(session, head.tenant, head.task)
            if current is None:
                raise not_found()
            task, old = current
            if old.id != head.version:
                # Another process was faster.
                return head_of(task, old)
            version = VersionRow(
                id=new_id("ver"),
                tenant=head.tenant,
                task_id=head.task,
                number=old.number + 1,
                learner=artifact.name,
                learner_digest=artifact.digest,
                seed=old.seed,
                classes=old.classes,
                shots=old.shots,
                shape=old.shape,
            )
            await repository.add_version(session, task, version, examples_of=old)
        renewed = head_of(task, version)
        # The weights are not admitted here: a deletion that has just evicted them would be undone.
        await self._keep_features(renewed, adapted.features)
        return renewed

    async def _features(self, head: Head, examples: int) -> npt.NDArray[np.float32] | None:
        """None where they are not there, or damaged: they can be made again."""
        cached = await self._blobs.get_features(head.learner_digest, head.version)
        if cached is None:
            return None
        try:
            features: npt.NDArray[np.float32] = safetensors.load(cached)[FEATURES]
        except (SafetensorError, KeyError):
            return None
        return features if len(features) == examples else None

    async def _keep_features(self, head: Head, features: npt.NDArray[np.float32]) -> None:
        """Of a version that is stored. Raises `ProblemError` 404, leaving none, if it was deleted meanwhile."""
        await self.keep_features(head.learner_digest, head.version, features)
        if not await self._stored(head):
            await self._blobs.delete_features([(head.learner_digest, head.version)])
            raise not_found()

    async def _stored(self, head: Head) -> bool:
        async with self._database.read() as session:
            return bool(await repository.known_versions(session, [head.version]))

    async def _examples(self, head: Head) -> list[StoredExample]:
        async with self._database.read() as session:
            examples = await repository.get_examples(session, head.tenant, head.version)
        if not examples:
            raise not_found()
        return examples

    async def _adapt(self, head: Head, artifact: Artifact, examples: Sequence[StoredExample]) -> Adapted:
        try:
            data = await self._blobs.get(head.tenant, [example.blob for example in examples])
            raws = [raw_from(example.kind, raw) for example, raw in zip(examples, data, strict=True)]
            loop = asyncio.get_running_loop()
            x = await loop.run_in_executor(self._pool, redecode, raws, artifact.config.input)
        except BlobMissingError:
            if await self._stored(head):
                raise  # Lost, which is no client's fault.
            raise not_found() from None
        except InputError as error:
            detail = f"The learner that is served now does not take the task's inputs: {error.detail}"
            raise fail("learner_unavailable", detail) from None
        return await self._engine.adapt(artifact.name, _support(head, examples, x))


def head_of(task: TaskRow, version: VersionRow) -> Head:
    return Head(
        tenant=task.tenant,
        task=task.id,
        version=version.id,
        number=version.number,
        learner=version.learner,
        learner_digest=version.learner_digest,
        seed=version.seed,
        classes=tuple(version.classes),
        shape=tuple(version.shape),
        revision=task.revision,
    )


def not_found() -> ProblemError:
    return fail("task_not_found", "There is no such task.")


def _support(head: Head, examples: Sequence[StoredExample], x: npt.NDArray[np.float32]) -> SupportSet:
    index = {label: position for position, label in enumerate(head.classes)}
    y = np.array([index[example.label] for example in examples], dtype=np.int64)
    return SupportSet(x, y, head.classes, head.seed)
