"""Weights shared through Redis are those of tasks that are stored, and of no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from app.db.database import Database
from app.db.redis import RedisConnection
from app.http.problems import ProblemError
from app.serving.cache_stats import CacheStats
from app.serving.shared_cache import SharedCache, WeightKey
from models.artifact import load
from tests.app.tasks.test_weights import StoredTask, stored_task

Shared = tuple[StoredTask, SharedCache, CacheStats]


@asynccontextmanager
async def shared(zoo: Path, tmp_path: Path, redis_url: str) -> AsyncIterator[Shared]:
    """A stored task, in a process that shares weights."""
    artifact, redis, cache_stats = load(zoo / "vectors"), RedisConnection(redis_url), CacheStats()
    cache = SharedCache(redis, b"sixteen or more characters", cache_stats)
    async with stored_task(tmp_path, artifact, artifact.digest, cache, cache_stats) as it:
        yield it, cache, cache_stats
        await cache.close()
        await redis.close()


async def filled(cache: SharedCache) -> None:
    await asyncio.gather(*cache._fills)


def test_made_once_and_then_found(zoo: Path, tmp_path: Path, redis_url: str) -> None:
    async def test() -> None:
        async with shared(zoo, tmp_path, redis_url) as (it, cache, cache_stats):
            made = await it.weights.load(it.ref, it.artifact)
            await filled(cache)
            found = await it.weights.load(it.ref, it.artifact)
            assert torch.equal(found.rows["prototype"], made.rows["prototype"])
            assert cache_stats.counts == {
                ("l2", "miss"): 1,
                ("l3", "hit"): 1,
                ("l2", "filled"): 1,
                ("l2", "hit"): 1,
            }

    asyncio.run(test())


def test_what_a_deletion_could_not_reach_answers_nothing(zoo: Path, tmp_path: Path, redis_url: str) -> None:
    async def test() -> None:
        async with shared(zoo, tmp_path, redis_url) as (it, cache, _):
            await it.weights.load(it.ref, it.artifact)
            await filled(cache)
            await it.delete()
            with pytest.raises(ProblemError) as refused:
                await it.weights.load(it.ref, it.artifact)
            assert refused.value.code == "task_not_found"

    asyncio.run(test())


def test_a_fill_that_a_deletion_overtook_is_taken_back(zoo: Path, tmp_path: Path, redis_url: str) -> None:
    async def test() -> None:
        async with shared(zoo, tmp_path, redis_url) as (it, cache, cache_stats):
            made = await it.weights.load(it.ref, it.artifact)
            await filled(cache)
            await it.delete()
            key = WeightKey("t", it.artifact.digest, it.ref.version)
            await it.weights.unshare([(it.artifact.digest, it.ref.version)])
            it.weights.share(it.ref, made)
            await filled(cache)
            assert await cache._redis.send("EXISTS", str(key)) == 0
            assert cache_stats.counts["l2", "dropped"] == 1

    asyncio.run(test())


def test_with_the_database_away_what_is_shared_goes_on_answering(
    zoo: Path, tmp_path: Path, redis_url: str
) -> None:
    async def test() -> None:
        async with shared(zoo, tmp_path, redis_url) as (it, cache, _):
            made = await it.weights.load(it.ref, it.artifact)
            await filled(cache)
            away = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
            without_database = replace(it.weights, store=replace(it.store, database=away))
            found = await without_database.load(it.ref, it.artifact)
            assert torch.equal(found.rows["prototype"], made.rows["prototype"])
            # But nothing is added that nobody can tell whether it may be.
            without_database.share(it.ref, made)
            await filled(cache)
            key = WeightKey("t", it.artifact.digest, it.ref.version)
            assert await cache._redis.send("EXISTS", str(key)) == 0

    asyncio.run(test())
