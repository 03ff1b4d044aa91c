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
from app.db.engine import Database
from app.db.migrate import upgrade
from app.db.tables import TaskRow, VersionRow
from app.http.problems import ProblemError
from app.serving.engine import Engine
from app.tasks import repository
from app.tasks.cache import Head
from app.tasks.learner_migration import Renewer
from app.tasks.repository import StoredExample
from app.tasks.weights import Restorer, head_of
from models.artifact import Artifact, load

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
class Stored:
    """A stored task of two vectors, and what makes its weights."""

    database: Database
    blobs: WatchedBlobs
    restorer: Restorer
    renewer: Renewer
    artifact: Artifact
    head: Head

    async def delete(self) -> None:
        async with self.database.write() as session:
            await repository.remove_task(session, "t", self.head.task)

    async def features(self) -> list[tuple[str, str]]:
        return [pair async for pairs in self.blobs.listed_features() for pair in pairs]


@asynccontextmanager
async def stored(tmp_path: Path, artifact: Artifact, learner_digest: str) -> AsyncIterator[Stored]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    await asyncio.to_thread(upgrade, url)
    database, engine = Database(url), Engine({"vectors": artifact}, arena_bytes=1 << 20)
    blobs = WatchedBlobs.at("memory:///", tmp_path)
    assert isinstance(blobs, WatchedBlobs)
    engine.start()
    try:
        await blobs.put_missing("t", {digest(data): data for data in VECTORS.values()})
        task = TaskRow(id=new_id("task"), tenant="t", name=None, current=1)
        values = {"learner": "vectors", "seed": 1, "classes": ["a", "b"], "shots": [1, 1], "shape": [2]}
        version = VersionRow(
            id=new_id("ver"),
            tenant="t",
            task_id=task.id,
            number=1,
            learner_digest=learner_digest,
            **values,
        )
        examples = [StoredExample(label, "vector", digest(data)) for label, data in VECTORS.items()]
        async with database.write() as session:
            await repository.add_task(session, task, version, examples)
        with ThreadPoolExecutor(1) as pool:
            restorer = Restorer(database, blobs, engine, pool)
            renewer = Renewer(database, restorer)
            yield Stored(database, blobs, restorer, renewer, artifact, head_of(task, version))
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
        async with stored(tmp_path, artifact, artifact.digest) as it:
            if isinstance(damaged, bytes):
                await it.blobs.put_features(artifact.digest, it.head.version, damaged)
            elif damaged == "other":
                features = np.zeros((3, 2), np.float32)
                await it.restorer.keep_features(artifact.digest, it.head.version, features)
            for _ in range(2):
                weights = await it.restorer.weights(it.head, artifact)
                assert torch.equal(weights.rows["prototype"][0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
            assert await it.features() == [(artifact.digest, it.head.version)]

    asyncio.run(test())


@pytest.mark.parametrize("learner_digest", ["same", "replaced"])
def test_a_task_deleted_meanwhile_leaves_nothing(
    tmp_path: Path, artifact: Artifact, learner_digest: str
) -> None:
    async def test() -> None:
        known = artifact.digest if learner_digest == "same" else learner_digest
        async with stored(tmp_path, artifact, known) as it:
            it.blobs.before_features = it.delete
            make = it.restorer.weights if learner_digest == "same" else it.renewer.renew
            with pytest.raises(ProblemError) as refused:
                await make(it.head, artifact)
            assert refused.value.code == "task_not_found"
            assert await it.features() == []

    asyncio.run(test())


def test_a_version_of_yet_another_learner_is_renewed_too(tmp_path: Path, artifact: Artifact) -> None:
    """A head that another process has left behind twice: the answer is never made of its learner's features."""

    async def test() -> None:
        async with stored(tmp_path, artifact, "first") as it:
            other = replace(artifact, digest="second")
            assert (await it.renewer.renew(it.head, other)).number == 2
            renewed = await it.renewer.renew(it.head, artifact)
            assert (renewed.number, renewed.learner_digest) == (3, artifact.digest)

    asyncio.run(test())


def test_two_releases_side_by_side_take_no_turns(tmp_path: Path, artifact: Artifact) -> None:
    """Each answers by the version of its own learner, which is made once; what is current changes once."""

    async def test() -> None:
        async with stored(tmp_path, artifact, artifact.digest) as it:
            other = replace(artifact, digest="second")
            second = await it.renewer.renew(it.head, other)
            assert (second.number, second.revision) == (2, 2)
            for _ in range(3):
                first = await it.renewer.renew(second, artifact)
                assert first.version == it.head.version
                assert (await it.renewer.renew(first, other)).version == second.version
            async with it.database.read() as session:
                found = await repository.get_current(session, "t", it.head.task)
                assert found is not None
                assert (found[0].current, found[0].revision) == (2, 2)
                assert found[1].parent == 1
                assert found[1].origin == "renewed"

    asyncio.run(test())


def test_lost_inputs_are_not_a_missing_task(tmp_path: Path, artifact: Artifact) -> None:
    """A task is only said not to be there when it is not."""

    async def test() -> None:
        async with stored(tmp_path, artifact, artifact.digest) as it:
            await it.blobs.delete("t", [digest(VECTORS["a"])])
            with pytest.raises(BlobMissingError):
                await it.restorer.weights(it.head, artifact)
            await it.delete()
            with pytest.raises(ProblemError):
                await it.restorer.weights(it.head, artifact)

    asyncio.run(test())
