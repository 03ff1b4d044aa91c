"""Weights of versions: regenerated from stored inputs if they left memory, admitted and shared when they are made.

Raw inputs are the truth; the features of one learner are a cache beside them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from app.core.version_cache import PendingRead
from app.db.blobs import BlobMissingError
from app.db.errors import DatabaseUnavailableError
from app.db.tables import VersionRow
from app.db.tenancy import Store, TenantSession
from app.http.problems import fail
from app.payloads.inputs import decode_stored
from app.payloads.targets import learner_targets
from app.serving.engine import Engine
from app.serving.engine_types import Adapted, SupportSet
from app.serving.shared_cache import WeightKey
from app.tasks import repository
from app.tasks.cache import TaskVersionRef
from app.tasks.learner_selection import check_served
from app.tasks.repository import StoredExample, task_not_found
from app.tasks.resources import TaskResources
from models.artifact import Artifact
from models.inputs import InputError, raw_from
from models.protocol import TaskWeights
from models.weights import Header

T = TypeVar("T")
Inputs = npt.NDArray[np.float32]
_FEATURES = "features"


@dataclass(frozen=True)
class VersionWeights:
    """Raises `ProblemError`, `BlobMissingError` if raw inputs are lost, and what the engine raises."""

    resources: TaskResources
    store: Store

    async def load(self, ref: TaskVersionRef, artifact: Artifact) -> TaskWeights:
        """Return weights of a version whose learner is served.

        They come from the cache that processes share, or are regenerated from cached features or raw inputs.
        """
        cluster = self.resources.runtime.cluster
        if cluster.shared_cache is not None:
            # Side by side: what a deleted task has left in the cache must not answer.
            shared, exists = await asyncio.gather(
                cluster.shared_cache.get(_key(ref), _header(ref)), self._exists(ref, if_unknown=True)
            )
            if not exists:
                raise task_not_found()
            if shared is not None:
                return shared
        weights = await self._regenerated(ref, artifact)
        cluster.cache_stats.count("l3", "hit")
        self.share(ref, weights)
        return weights

    async def adapt(self, ref: TaskVersionRef, artifact: Artifact) -> tuple[Adapted, tuple[int, ...]]:
        """Adapt any learner that takes the raw inputs. Returns the shape of an input to it as well."""
        check_served(artifact, ref.target)
        examples = await self._examples(ref)
        x = await self.inputs(ref, artifact, [(example.kind, example.blob) for example in examples])
        return await self._engine.adapt(artifact.name, _support(ref, examples, x)), x.shape[1:]

    async def inputs(
        self, ref: TaskVersionRef, artifact: Artifact, stored: Sequence[tuple[str, str]]
    ) -> Inputs:
        """Decode stored inputs of a version for a learner, [n, *input]. They are given by kind and digest."""
        try:
            data = await self.store.blobs.get([blob for _, blob in stored])
            raws = [raw_from(kind, raw) for (kind, _), raw in zip(stored, data, strict=True)]
            return await self.resources.runtime.in_decoder(decode_stored, raws, artifact.config.input)
        except BlobMissingError:
            if await self._stored(ref):
                raise  # Lost, which is no client's fault.
            raise task_not_found() from None
        except InputError as error:
            detail = f"The learner that is now served does not take the task's inputs: {error.detail}"
            raise fail("learner_unavailable", detail) from None

    async def features(self, ref: TaskVersionRef, examples: int) -> Inputs | None:
        """Return cached features; None if they are missing or damaged, since they can be made again."""
        cached = await self.store.all_blobs.get_features(ref.learner_digest, ref.version)
        if cached is None:
            return None
        try:
            features: Inputs = safetensors.load(cached)[_FEATURES]
        except (SafetensorError, KeyError):
            return None
        return features if len(features) == examples else None

    async def cache_features(self, ref: TaskVersionRef, features: Inputs) -> None:
        """Cache features of a stored version. If it was deleted meanwhile, leaves none and raises 404."""
        await self._put_features(ref.learner_digest, ref.version, features)
        if not await self._stored(ref):
            await self.store.all_blobs.delete_features([(ref.learner_digest, ref.version)])
            raise task_not_found()

    async def write_version(
        self,
        version: VersionRow,
        blobs: Mapping[str, bytes],
        features: Inputs | None,
        rows: Callable[[TenantSession], Awaitable[T]],
    ) -> T:
        """Write a version: features if there are any, blobs, and last its rows in one transaction.

        Returns what `rows` returns. If anything raises, nothing is left.
        """
        try:
            if features is not None:
                await self._put_features(version.learner_digest, version.id, features)
            return await self.resources.runtime.collector.write(self.store, repository.INPUTS, blobs, rows)
        except BaseException:
            await self.store.all_blobs.delete_features([(version.learner_digest, version.id)])
            raise

    def admit(
        self, ref: TaskVersionRef, weights: TaskWeights, read: PendingRead, number: int | None = None
    ) -> None:
        """Keep a version that was just written, and its weights, for queries to come."""
        if read.gone:
            return
        self._engine.admit(ref.version, ref.learner, weights)
        self.resources.versions.put(ref, read, number)
        self.share(ref, weights)

    def share(self, ref: TaskVersionRef, weights: TaskWeights) -> None:
        """Share weights with other processes, in the background. Those of a deleted version do not stay."""
        cache = self.resources.runtime.cluster.shared_cache
        if cache is not None:
            cache.fill(_key(ref), weights, _header(ref), partial(self._exists, ref, if_unknown=False))

    async def unshare(self, versions: Collection[tuple[str, str]]) -> None:
        """Take back weights of deleted versions, given as pairs (learner digest, version id)."""
        cache = self.resources.runtime.cluster.shared_cache
        if cache is not None:
            await cache.delete([WeightKey(self.store.tenant, *version) for version in versions])

    @property
    def _engine(self) -> Engine:
        return self.resources.runtime.engine

    async def _regenerated(self, ref: TaskVersionRef, artifact: Artifact) -> TaskWeights:
        examples = await self._examples(ref)
        features = await self.features(ref, len(examples))
        if features is None:
            x = await self.inputs(ref, artifact, [(example.kind, example.blob) for example in examples])
            adapted = await self._engine.adapt(artifact.name, _support(ref, examples, x))
            await self.cache_features(ref, adapted.features)
            return adapted.weights
        # Not read by the engine, so never filled.
        x = np.empty((len(examples), *ref.shape), np.float32)
        return (await self._engine.adapt(ref.learner, _support(ref, examples, x), features)).weights

    async def _put_features(self, learner_digest: str, version: str, features: Inputs) -> None:
        data = safetensors.save({_FEATURES: features})
        await self.store.all_blobs.put_features(learner_digest, version, data)

    async def _examples(self, ref: TaskVersionRef) -> tuple[StoredExample, ...]:
        async with self.store.read() as session:
            examples = await repository.get_examples(session, ref.version)
        if not examples:
            raise task_not_found()
        return examples

    async def _stored(self, ref: TaskVersionRef) -> bool:
        async with self.store.read() as session:
            return bool(await repository.known_versions(session, [ref.version]))

    async def _exists(self, ref: TaskVersionRef, *, if_unknown: bool) -> bool:
        """Return whether a version is stored, or `if_unknown` if the database does not answer.

        Without the database, what is in memory goes on answering, but nothing is added to it.
        """
        try:
            return await self._stored(ref)
        except DatabaseUnavailableError:
            return if_unknown


def _key(ref: TaskVersionRef) -> WeightKey:
    return WeightKey(ref.tenant, ref.learner_digest, ref.version)


def _header(ref: TaskVersionRef) -> Header:
    return Header(ref.learner_digest, ref.classes, ref.seed)


def _support(ref: TaskVersionRef, examples: Sequence[StoredExample], x: Inputs) -> SupportSet:
    y = learner_targets([example.truth for example in examples], ref.classes)
    return SupportSet(x, y, ref.classes, ref.seed)
