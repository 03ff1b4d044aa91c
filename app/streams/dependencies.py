"""The part of streams that lives as long as the process; every request makes its services from it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.http.upload import Spool
from app.learners.service import Learners
from app.runtime import Runtime
from app.streams.bundled import BundledStreams
from app.streams.cache import StreamInvalidation, StreamVersionCache, TensorCache
from app.streams.learners import StreamLearners


@dataclass(frozen=True)
class StreamResources:
    runtime: Runtime
    learners: Learners
    spool: Spool
    """Receives files that become datasets."""
    bundled: BundledStreams
    versions: StreamVersionCache
    stream_learners: StreamLearners
    tensors: TensorCache
    invalidation: StreamInvalidation
    """Applies the changes of other processes as the watcher reads them, and this process's own at once."""

    @classmethod
    async def open(cls, runtime: Runtime, learners: Learners, spool: Spool) -> StreamResources:
        """Load the bundled streams and subscribe to changes. Raises `StreamStorageError`."""
        bundled = await asyncio.to_thread(BundledStreams.load, runtime.settings.streams_dir)
        versions, tensors = StreamVersionCache(), TensorCache()
        cluster = runtime.cluster
        invalidation = StreamInvalidation(versions, tensors, runtime.engine, cluster.shared_cache)
        cluster.watcher.subscribe(invalidation)
        stream_learners = StreamLearners(learners, runtime.settings.device)
        return cls(runtime, learners, spool, bundled, versions, stream_learners, tensors, invalidation)
