"""The part of streams that lives as long as the process; every request makes its services from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.datasets.resources import DatasetResources
from app.learners.served_learners import ServedLearners
from app.runtime import Runtime
from app.streams.bundled import BundledStreams
from app.streams.cache import StreamInvalidation, StreamVersionCache, TensorCache
from app.streams.learners import StreamLearners


@dataclass(frozen=True)
class StreamResources:
    runtime: Runtime
    learners: ServedLearners
    datasets: DatasetResources
    bundled: BundledStreams
    versions: StreamVersionCache
    stream_learners: StreamLearners
    tensors: TensorCache
    invalidation: StreamInvalidation
    """Applies the changes of other processes as the watcher reads them, and this process's own at once."""

    @classmethod
    async def open(
        cls, runtime: Runtime, learners: ServedLearners, datasets: DatasetResources
    ) -> StreamResources:
        """Load the bundled streams and subscribe to changes. Raises `StreamStorageError`."""
        bundled = await asyncio.to_thread(BundledStreams.load, runtime.settings.streams_dir)
        versions, tensors = StreamVersionCache(), TensorCache()
        cluster = runtime.cluster
        invalidation = StreamInvalidation(versions, tensors, runtime.engine, cluster.shared_cache)
        cluster.watcher.subscribe(invalidation)
        stream_learners = StreamLearners(learners, runtime.settings.device)
        return cls(runtime, learners, datasets, bundled, versions, stream_learners, tensors, invalidation)
