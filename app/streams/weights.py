"""Networks and gates of stream versions that are not in memory: fetched from other processes, or generated anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from app.cluster import Cluster
from app.db.blobs import BlobMissingError
from app.db.errors import DatabaseUnavailableError
from app.db.tenancy import Store
from app.serving.shared_cache import WeightKey
from app.streams import files, repository
from app.streams.cache import TensorCache, Tensors
from app.streams.learners import BuiltStreamLearner
from app.streams.repository import StoredStreamVersion, StreamPart
from app.streams.versions import StreamVersionRef, version_deleted
from models.protocol import TaskWeights
from models.stream_protocol import StreamVersion
from models.weights import Header

BUNDLED = "bundled"
"""Tenant of bundled streams in the keys of shared weights."""
READ_SECONDS = 60.0
"""Time limit for reading a part; only a process that is stopping takes longer."""

Generate = Callable[[StreamVersion], TaskWeights]


class LazyTaskTensors(Mapping[str, Tensors]):
    """The tensors of each stream task, read when they are looked up: a network needs those of its own task alone.

    For threads of the builders' pool: a lookup blocks until the event loop and its default executor have read them.
    """

    def __init__(
        self,
        parts: Mapping[str, StreamPart],
        read: Callable[[StreamPart], Coroutine[Any, Any, Tensors]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._parts = parts
        self._read = read
        self._loop = loop

    def __getitem__(self, task: str) -> Tensors:
        reading = asyncio.run_coroutine_threadsafe(self._read(self._parts[task]), self._loop)
        return reading.result(READ_SECONDS)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


@dataclass(frozen=True)
class StreamWeights:
    """Weights for one tenant.

    Raises `ProblemError` 404 if the version has been deleted, `BlobMissingError` if a part of it is lost, and
    `StreamStorageError`.
    """

    store: Store
    tensors: TensorCache
    cluster: Cluster
    builders: Executor
    """Threads that generate weights and do nothing else."""

    async def network(self, version: StreamVersionRef, built: BuiltStreamLearner, task: str) -> TaskWeights:
        header = Header(version.digest, version.labels[task], seed=0)
        key = _key(version, version.network_key(task))
        return await self._get(version, key, header, lambda full: built.learner.weights(full, task))

    async def gate(self, version: StreamVersionRef, built: BuiltStreamLearner) -> TaskWeights:
        header = Header(version.digest, tuple(version.labels), seed=0)
        return await self._get(version, _key(version, version.gate_key), header, built.learner.gate)

    async def _get(
        self, version: StreamVersionRef, key: WeightKey, header: Header, generate: Generate
    ) -> TaskWeights:
        """Return weights that other processes share, or generate them; never those of a deleted version."""
        shared, exists = await asyncio.gather(self._shared(key, header), self._exists(version))
        if not exists:
            raise version_deleted()
        if shared is not None:
            return shared
        weights = await self._generated(version, generate)
        self.cluster.cache_stats.count("l3", "hit")
        if self.cluster.shared_cache is not None:
            self.cluster.shared_cache.fill(
                key, weights, header, partial(self._exists, version, unknown=False)
            )
        return weights

    async def _shared(self, key: WeightKey, header: Header) -> TaskWeights | None:
        return None if self.cluster.shared_cache is None else await self.cluster.shared_cache.get(key, header)

    async def _exists(self, version: StreamVersionRef, *, unknown: bool = True) -> bool:
        """Return `unknown` while the database is away: what is in memory is still used, but nothing is shared."""
        if version.bundle is not None:
            return True
        try:
            async with self.store.read() as session:
                return await repository.has_version(session, version.stored.id)
        except DatabaseUnavailableError:
            return unknown

    async def _generated(self, version: StreamVersionRef, generate: Generate) -> TaskWeights:
        stored, loop = version.stored, asyncio.get_running_loop()
        try:
            shared = await self.tensors.get(stored.blob, lambda: self._read_shared(version))
            read = partial(self._task_tensors, version)
            tasks = LazyTaskTensors({part.name: part for part in stored.parts}, read, loop)
            return await loop.run_in_executor(self.builders, _generate, generate, stored, shared, tasks)
        except BlobMissingError:
            if await self._exists(version):
                raise
            raise version_deleted() from None

    async def _task_tensors(self, version: StreamVersionRef, part: StreamPart) -> Tensors:
        return await self.tensors.get(part.blob, lambda: self._read_part(version, part))

    async def _read_shared(self, version: StreamVersionRef) -> bytes:
        if (bundle := version.bundle) is not None:
            return await asyncio.to_thread(bundle.shared)
        return await files.fetch(self.store.files(repository.FOLDER), version.stored.blob)

    async def _read_part(self, version: StreamVersionRef, part: StreamPart) -> bytes:
        if (bundle := version.bundle) is not None:
            return await asyncio.to_thread(bundle.task_part, part.name)
        return await files.fetch(self.store.files(repository.FOLDER), part.blob)


def _generate(
    generate: Generate, stored: StoredStreamVersion, shared: Tensors, tasks: LazyTaskTensors
) -> TaskWeights:
    version = StreamVersion(stored.number, stored.labels, shared, tasks)
    # More threads lose badly to any busy neighbour.
    torch.set_num_threads(1)
    with torch.no_grad():
        weights = generate(version)
    # A stream draws no random numbers, as the header of shared weights says.
    return replace(weights, seed=torch.zeros_like(weights.seed))


def _key(version: StreamVersionRef, id: str) -> WeightKey:
    return WeightKey(BUNDLED if version.bundle is not None else version.tenant, version.digest, id)
