"""Networks and gates are generated from the parts that they need alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from app.cluster import Cluster
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.invalidation_log import ChangeWatcher
from app.db.tenancy import Store
from app.serving.cache_stats import CacheStats
from app.serving.served_models import ServedStream
from app.streams.bundled import BundledStreams
from app.streams.cache import TensorCache
from app.streams.learners import BuiltStreamLearner
from app.streams.versions import StreamVersionRef
from app.streams.weights import StreamWeights
from models.continual import bundle
from models.continual.storage import StreamStorageError
from models.continual.stream_config import build
from models.weights import tensors
from tests.app.streams.bundles import bundled

T = TypeVar("T")


def made(
    folder: Path, work: Callable[[StreamWeights, StreamVersionRef, BuiltStreamLearner], Awaitable[T]]
) -> T:
    """Return what `work` makes of the bundled stream `blobs`; the database and the blob store are empty."""
    learner = build(bundle.load(folder / "blobs").config)
    built = BuiltStreamLearner(learner, ServedStream.of(learner, torch.device("cpu")))
    ref = BundledStreams.load(folder).version("blobs")
    assert ref is not None

    async def run() -> T:
        database = Database(f"sqlite+aiosqlite:///{folder / 'none.db'}")
        with ThreadPoolExecutor(1) as pool:
            cluster = Cluster(ChangeWatcher(database), CacheStats(), None, None)
            store = Store("t", database, Blobs.at("memory:///", folder))
            return await work(StreamWeights(store, TensorCache(), cluster, pool), ref, built)

    return asyncio.run(run())


def test_a_network_needs_what_its_own_task_owns(tmp_path: Path) -> None:
    version = bundled(tmp_path / "blobs").version()
    (tmp_path / "blobs" / "tasks" / "02.safetensors").unlink()

    async def work(weights: StreamWeights, ref: StreamVersionRef, built: BuiltStreamLearner) -> None:
        first, gate = await asyncio.gather(weights.network(ref, built, "first"), weights.gate(ref, built))
        for found, expected in (
            (first, built.learner.weights(version, "first")),
            (gate, built.learner.gate(version)),
        ):
            assert all(value.equal(dict(tensors(found))[name]) for name, value in tensors(expected))
        with pytest.raises(StreamStorageError):
            await weights.network(ref, built, "third")

    made(tmp_path, work)


def test_a_damaged_part_answers_nothing(tmp_path: Path) -> None:
    bundled(tmp_path / "blobs")
    file = tmp_path / "blobs" / "shared.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)

    async def work(weights: StreamWeights, ref: StreamVersionRef, built: BuiltStreamLearner) -> None:
        with pytest.raises(StreamStorageError, match="damaged"):
            await weights.network(ref, built, "first")

    made(tmp_path, work)
