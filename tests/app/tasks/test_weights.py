"""Weights made again: from features or raw inputs, never of a task that is gone or by another learner's features."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.core.ids import new_id
from app.db.blobs import BlobMissingError, Blobs, digest
from app.db.database import Database
from app.db.migrate import upgrade
from app.db.tables import TaskRow, VersionRow
from app.db.tenancy import Store
from app.http.problems import ProblemError
from app.serving.cache_stats import CacheStats
from app.serving.engine import Engine
from app.serving.shared_cache import SharedCache
from app.tasks import repository
from app.tasks.cache import TaskVersionRef
from app.tasks.learner_migration import LearnerMigration
from app.tasks.repository import StoredExample
from app.tasks.weights import VersionWeights
from models.artifact import Artifact, load
from tests.app.tasks.resources import task_resources

VECTORS = {label: np.asarray(x, np.float32).tobytes() for label, x in (("a", [0, 1]), ("b", [1, 0]))}


class WatchedBlobs(Blobs):
    """Runs `before_features` once, before the next features are written."""

    before_features: Callable[[], Awaitable[None]] | None = None

    async def put_features(self, learner: str, version: str, data: bytes) -> None:
        watcher, self.before_features = self.before_features, None
        if watcher is not None:
            await watcher()
        await super().put_features(learner, version, data)


@dataclass
class StoredTask:
    """A stored task of two vectors, and what makes its weights."""

    blobs: WatchedBlobs
    weights: VersionWeights
    migration: LearnerMigration
    artifact: Artifact
    ref: TaskVersionRef

    @property
    def store(self) -> Store:
        return self.weights.store

    async def delete(self) -> None:
        async with self.store.write() as session:
            await repository.remove_task(session, self.ref.task)

    async def features(self) -> list[tuple[str, str]]:
        return [pair async for pairs in self.blobs.listed_features() for pair in pairs]


@asynccontextmanager
async def stored_task(
    tmp_path: Path,
    artifact: Artifact,
    learner_digest: str,
    cache: SharedCache | None = None,
    cache_stats: CacheStats | None = None,
) -> AsyncIterator[StoredTask]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    await asyncio.to_thread(upgrade, url)
    database, engine = Database(url), Engine({"vectors": artifact}, arena_bytes=1 << 20)
    blobs = WatchedBlobs.at("memory:///", tmp_path)
    assert isinstance(blobs, WatchedBlobs)
    engine.start()
    try:
        await blobs.put_missing("t", {digest(data): data for data in VECTORS.values()})
        store = Store("t", database, blobs)
        task = TaskRow(id=new_id("task"), name=None, current=1)
        values = {"learner": "vectors", "seed": 1, "classes": ["a", "b"], "shots": [1, 1], "shape": [2]}
        version = VersionRow(
            id=new_id("ver"),
            task_id=task.id,
            number=1,
            learner_digest=learner_digest,
            **values,
        )
        examples = [
            StoredExample(position, new_id("ex"), label, "vector", digest(data))
            for position, (label, data) in enumerate(VECTORS.items())
        ]
        async with store.write() as session:
            await repository.add_task(session, task, version, examples)
        with ThreadPoolExecutor(1) as pool:
            resources = task_resources(
                pool, database=database, blobs=blobs, engine=engine, cache=cache, cache_stats=cache_stats
            )
            weights, migration = VersionWeights(resources, store), LearnerMigration(resources, store)
            yield StoredTask(blobs, weights, migration, artifact, TaskVersionRef.of(task, version))
    finally:
        engine.close()
        await database.close()


@pytest.fixture
def artifact(zoo: Path) -> Artifact:
    return load(zoo / "vectors")


@pytest.mark.parametrize("damaged", [None, b"", b"not safetensors", "other"])
def test_features_that_cannot_be_read_are_made_again(
    tmp_path: Path, artifact: Artifact, damaged: bytes | str | None
) -> None:
    async def test() -> None:
        async with stored_task(tmp_path, artifact, artifact.digest) as it:
            if isinstance(damaged, bytes):
                await it.blobs.put_features(artifact.digest, it.ref.version, damaged)
            elif damaged == "other":
                features = np.zeros((3, 2), np.float32)
                await it.weights.cache_features(it.ref, features)
            for _ in range(2):
                weights = await it.weights.load(it.ref, artifact)
                assert torch.equal(weights.rows["prototype"][0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
            assert await it.features() == [(artifact.digest, it.ref.version)]

    asyncio.run(test())


@pytest.mark.parametrize("learner_digest", ["same", "replaced"])
def test_a_task_deleted_meanwhile_leaves_nothing(
    tmp_path: Path, artifact: Artifact, learner_digest: str
) -> None:
    async def test() -> None:
        known = artifact.digest if learner_digest == "same" else learner_digest
        async with stored_task(tmp_path, artifact, known) as it:
            it.blobs.before_features = it.delete
            make = it.weights.load if learner_digest == "same" else it.migration.migrate
            with pytest.raises(ProblemError) as refused:
                await make(it.ref, artifact)
            assert refused.value.code == "task_not_found"
            assert await it.features() == []

    asyncio.run(test())


def test_a_version_of_yet_another_learner_is_migrated_too(tmp_path: Path, artifact: Artifact) -> None:
    """A version that others have migrated twice: the answer is never made of another learner's features."""

    async def test() -> None:
        async with stored_task(tmp_path, artifact, "first") as it:
            other = replace(artifact, digest="second")
            assert (await it.migration.migrate(it.ref, other)).number == 2
            migrated = await it.migration.migrate(it.ref, artifact)
            assert (migrated.number, migrated.learner_digest) == (3, artifact.digest)

    asyncio.run(test())


def test_two_releases_side_by_side_take_no_turns(tmp_path: Path, artifact: Artifact) -> None:
    """Each answers by the version of its own learner, which is made once; what is current changes once."""

    async def test() -> None:
        async with stored_task(tmp_path, artifact, artifact.digest) as it:
            other = replace(artifact, digest="second")
            second = await it.migration.migrate(it.ref, other)
            assert (second.number, second.revision) == (2, 2)
            for _ in range(3):
                first = await it.migration.migrate(second, artifact)
                assert first.version == it.ref.version
                assert (await it.migration.migrate(first, other)).version == second.version
            async with it.store.read() as session:
                found = await repository.get_current(session, it.ref.task)
                assert found is not None
                assert (found[0].current, found[0].revision) == (2, 2)
                assert found[1].parent == 1
                assert found[1].origin == "renewed"

    asyncio.run(test())


def test_lost_inputs_are_not_a_missing_task(tmp_path: Path, artifact: Artifact) -> None:
    """A task is only said not to be there when it is not."""

    async def test() -> None:
        async with stored_task(tmp_path, artifact, artifact.digest) as it:
            await it.blobs.delete("t", [digest(VECTORS["a"])])
            with pytest.raises(BlobMissingError):
                await it.weights.load(it.ref, artifact)
            await it.delete()
            with pytest.raises(ProblemError):
                await it.weights.load(it.ref, artifact)

    asyncio.run(test())
