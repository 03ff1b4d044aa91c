"""Weights shared through Redis are those of tasks that are stored, and of no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from app.db.engine import Database
from app.db.redis import Link
from app.http.problems import ProblemError
from app.serving.cache import Cache, Key
from app.serving.cache_stats import Tiers
from app.tasks.weights import Restorer
from models.artifact import Artifact, load
from tests.app.tasks.test_weights import Stored, stored


@asynccontextmanager
async def shared(zoo: Path, tmp_path: Path, redis_url: str) -> AsyncIterator[tuple[Stored, Artifact, Tiers]]:
    """A stored task, in a process that shares weights."""
    artifact, link, tiers = load(zoo / "vectors"), Link(redis_url), Tiers()
    cache = Cache(link, b"sixteen or more characters", tiers)
    async with stored(tmp_path, artifact, artifact.digest) as it:
        alone = it.restorer
        yield (
            replace(it, restorer=Restorer(it.database, it.blobs, alone._engine, alone._pool, cache, tiers)),
            artifact,
            tiers,
        )
        await cache.close()
        await link.close()


async def filled(it: Stored) -> None:
    assert it.restorer._cache is not None
    await asyncio.gather(*it.restorer._cache._fills)


def test_made_once_and_then_found(zoo: Path, tmp_path: Path, redis_url: str) -> None:
    async def test() -> None:
        async with shared(zoo, tmp_path, redis_url) as (it, artifact, tiers):
            made = await it.restorer.weights(it.head, artifact)
            await filled(it)
            found = await it.restorer.weights(it.head, artifact)
            assert torch.equal(found.rows["prototype"], made.rows["prototype"])
            assert tiers.counts == {
                ("l2", "miss"): 1,
                ("l3", "hit"): 1,
                ("l2", "filled"): 1,
                ("l2", "hit"): 1,
            }

    asyncio.run(test())


def test_what_a_deletion_could_not_reach_answers_nothing(zoo: Path, tmp_path: Path, redis_url: str) -> None:
    async def test() -> None:
        async with shared(zoo, tmp_path, redis_url) as (it, artifact, _):
            await it.restorer.weights(it.head, artifact)
            await filled(it)
            await it.delete()
            with pytest.raises(ProblemError) as refused:
                await it.restorer.weights(it.head, artifact)
            assert refused.value.code == "task_not_found"

    asyncio.run(test())


def test_a_fill_that_a_deletion_overtook_is_taken_back(zoo: Path, tmp_path: Path, redis_url: str) -> None:
    async def test() -> None:
        async with shared(zoo, tmp_path, redis_url) as (it, artifact, tiers):
            made = await it.restorer.weights(it.head, artifact)
            await filled(it)
            await it.delete()
            key = Key("t", artifact.digest, it.head.version)
            await it.restorer.unshare("t", [(artifact.digest, it.head.version)])
            it.restorer.share(it.head, made)
            await filled(it)
            assert it.restorer._cache is not None
            assert await it.restorer._cache._link.send("EXISTS", str(key)) == 0
            assert tiers.counts["l2", "dropped"] == 1

    asyncio.run(test())


def test_with_the_database_away_what_is_shared_goes_on_answering(
    zoo: Path, tmp_path: Path, redis_url: str
) -> None:
    async def test() -> None:
        async with shared(zoo, tmp_path, redis_url) as (it, artifact, _):
            made = await it.restorer.weights(it.head, artifact)
            await filled(it)
            away = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
            it.restorer._database = away
            found = await it.restorer.weights(it.head, artifact)
            assert torch.equal(found.rows["prototype"], made.rows["prototype"])
            # But nothing is added that nobody can tell whether it may be.
            it.restorer.share(it.head, made)
            await filled(it)
            key = Key("t", artifact.digest, it.head.version)
            assert it.restorer._cache is not None
            assert await it.restorer._cache._link.send("EXISTS", str(key)) == 0

    asyncio.run(test())
