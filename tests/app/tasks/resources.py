"""What the services of tasks share, over stores that a test has at hand."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, cast

from app.cluster import Cluster
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.learners.served_learners import ServedLearners
from app.runtime import Runtime
from app.serving.cache_stats import CacheStats
from app.serving.engine import Engine
from app.serving.shared_cache import SharedCache
from app.tasks.resources import TaskResources


def task_resources(
    decoders: Executor,
    *,
    database: Database | None = None,
    blobs: Blobs | None = None,
    engine: Engine | None = None,
    learners: ServedLearners | None = None,
    cache: SharedCache | None = None,
    cache_stats: CacheStats | None = None,
) -> TaskResources:
    """Return resources of which a test uses no more than it gives."""
    nothing = cast(Any, None)
    runtime = Runtime(
        settings=nothing,
        database=database or nothing,
        blobs=blobs or nothing,
        collector=BlobCollector(database, blobs or nothing) if database is not None else nothing,
        engine=engine or nothing,
        cluster=Cluster(nothing, cache_stats or CacheStats(), cache, None),
        decoders=decoders,
        builders=nothing,
    )
    return TaskResources(runtime, learners or ServedLearners({}, {}))
