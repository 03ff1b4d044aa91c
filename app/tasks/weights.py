"""Weights that are no longer in memory, made again from what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from functools import partial

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from app.db.blobs import BlobMissingError, Blobs
from app.db.engine import Database
from app.db.failures import NO_ANSWER
from app.db.tables import TaskRow, VersionRow
from app.http.problems import ProblemError, fail
from app.payloads.inputs import redecode
from app.payloads.targets import goals
from app.serving.cache import Cache, Key
from app.serving.cache_stats import Tiers
from app.serving.engine import Engine
from app.serving.types import Adapted, SupportSet
from app.tasks import repository
from app.tasks.cache import Head
from app.tasks.learner_selection import check_served
from app.tasks.repository import StoredExample
from models.artifact import Artifact
from models.inputs import InputError, raw_from
from models.protocol import TaskWeights
from models.weights import Header

FEATURES = "features"


class Restorer:
    """Raw inputs are the truth; features of one learner are a cache beside them.

    Raises `ProblemError`, and `BlobMissingError` where raw inputs are lost.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        engine: Engine,
        pool: Executor,
        cache: Cache | None = None,
        tiers: Tiers | None = None,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._engine = engine
        self._pool = pool
        self._cache = cache
        self._tiers = tiers or Tiers()

    async def keep_features(self, learner: str, version: str, features: npt.NDArray[np.float32]) -> None:
        """`learner` is a digest."""
        await self._blobs.put_features(learner, version, safetensors.save({FEATURES: features}))

    async def weights(self, head: Head, artifact: Artifact) -> TaskWeights:
        """Of a version whose learner is served: from other processes, from cached features, from raw inputs."""
        if self._cache is not None:
            # Side by side: what a deleted task has left there must not be answered by.
            shared, known = await asyncio.gather(
                self._cache.get(_key(head), _header(head)), self._known(head)
            )
            if not known:
                raise not_found()
            if shared is not None:
                return shared
        weights = await self._regenerated(head, artifact)
        self._tiers.count("l3", "hit")
        self.share(head, weights)
        return weights

    def share(self, head: Head, weights: TaskWeights) -> None:
        """With other processes, in the background; nothing of a version that is deleted stays."""
        if self._cache is not None:
            self._cache.fill(_key(head), weights, _header(head), partial(self._known, head, untold=False))

    async def unshare(self, tenant: str, versions: Collection[tuple[str, str]]) -> None:
        """Versions that are gone, as pairs (learner digest, version id)."""
        if self._cache is not None:
            await self._cache.delete([Key(tenant, *version) for version in versions])

    async def _regenerated(self, head: Head, artifact: Artifact) -> TaskWeights:
        examples = await self._examples(head)
        features = await self.features(head, len(examples))
        if features is None:
            x = await self.arrays(head, artifact, examples)
            adapted = await self._engine.adapt(artifact.name, _support(head, examples, x))
            await self.keep_features_of(head, adapted.features)
            return adapted.weights
        # Not read by the engine, so never filled.
        x = np.empty((len(examples), *head.shape), np.float32)
        return (await self._engine.adapt(head.learner, _support(head, examples, x), features)).weights

    async def features(self, head: Head, examples: int) -> npt.NDArray[np.float32] | None:
        """None where they are not there, or damaged: they can be made again."""
        cached = await self._blobs.get_features(head.learner_digest, head.version)
        if cached is None:
            return None
        try:
            features: npt.NDArray[np.float32] = safetensors.load(cached)[FEATURES]
        except (SafetensorError, KeyError):
            return None
        return features if len(features) == examples else None

    async def keep_features_of(self, head: Head, features: npt.NDArray[np.float32]) -> None:
        """Of a version that is stored. Raises `ProblemError` 404, leaving none, if it was deleted meanwhile."""
        await self.keep_features(head.learner_digest, head.version, features)
        if not await self._stored(head):
            await self._blobs.delete_features([(head.learner_digest, head.version)])
            raise not_found()

    async def _stored(self, head: Head) -> bool:
        async with self._database.read() as session:
            return bool(await repository.known_versions(session, [head.version]))

    async def _known(self, head: Head, *, untold: bool = True) -> bool:
        """`untold` with the database away: what is in memory goes on answering, but nothing is added."""
        try:
            return await self._stored(head)
        except NO_ANSWER:
            return untold

    async def _examples(self, head: Head) -> list[StoredExample]:
        async with self._database.read() as session:
            examples = await repository.get_examples(session, head.tenant, head.version)
        if not examples:
            raise not_found()
        return examples

    async def adapt(self, head: Head, artifact: Artifact) -> tuple[Adapted, tuple[int, ...]]:
        """From the raw inputs, by any learner that takes them, and the shape of an input to it."""
        check_served(artifact, head.target)
        examples = await self._examples(head)
        x = await self.arrays(head, artifact, examples)
        return await self._engine.adapt(artifact.name, _support(head, examples, x)), x.shape[1:]

    async def arrays(
        self, head: Head, artifact: Artifact, examples: Sequence[StoredExample]
    ) -> npt.NDArray[np.float32]:
        """Examples of a version as the learner takes them, [n, *input]."""
        try:
            data = await self._blobs.get(head.tenant, [example.blob for example in examples])
            raws = [raw_from(example.kind, raw) for example, raw in zip(examples, data, strict=True)]
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, redecode, raws, artifact.config.input)
        except BlobMissingError:
            if await self._stored(head):
                raise  # Lost, which is no client's fault.
            raise not_found() from None
        except InputError as error:
            detail = f"The learner that is served now does not take the task's inputs: {error.detail}"
            raise fail("learner_unavailable", detail) from None


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
        target=version.target,
        revision=task.revision,
    )


def _key(head: Head) -> Key:
    return Key(head.tenant, head.learner_digest, head.version)


def _header(head: Head) -> Header:
    return Header(head.learner_digest, head.classes, head.seed)


def not_found() -> ProblemError:
    return fail("task_not_found", "There is no such task.")


def _support(head: Head, examples: Sequence[StoredExample], x: npt.NDArray[np.float32]) -> SupportSet:
    y = goals([example.aim for example in examples], head.classes)
    return SupportSet(x, y, head.classes, head.seed)
