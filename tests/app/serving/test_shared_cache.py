"""The second tier: shared, signed, and never in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import redis
import torch

from app.core.ids import new_id
from app.db import redis as redis_module
from app.db.redis import RedisAwayError, RedisConnection
from app.serving import shared_cache as cache_module
from app.serving.cache_stats import CacheStats
from app.serving.shared_cache import SharedCache, WeightKey
from models.noise import label_key
from models.protocol import TaskWeights
from models.weights import Header, tensors
from tests.servers.redis import Redis

SECRET = b"sixteen or more characters"
CLASSES = ("cat", "größe")
HEADER = Header("digest", CLASSES, seed=7)


def weights(width: int = 3) -> TaskWeights:
    class_key = torch.tensor([[label_key(label) for label in CLASSES]])
    rows = {"w": torch.arange(2.0 * width).view(1, 2, width)}
    return TaskWeights({"b": torch.ones(1, 2)}, rows, torch.tensor([2]), class_key, torch.tensor([7]))


def key(**changes: str) -> WeightKey:
    return replace(WeightKey("t", "digest", new_id("ver")), **changes)


async def stored() -> bool:
    return True


async def deleted() -> bool:
    return False


@dataclass
class Process:
    redis: RedisConnection
    cache: SharedCache
    cache_stats: CacheStats

    async def filled(
        self, key: WeightKey, still: Callable[[], Awaitable[bool]] = stored, width: int = 3
    ) -> None:
        self.cache.fill(key, weights(width), HEADER, still)
        await asyncio.gather(*self.cache._fills)


@asynccontextmanager
async def process(url: str, secret: bytes = SECRET) -> AsyncIterator[Process]:
    redis, cache_stats = RedisConnection(url), CacheStats()
    cache = SharedCache(redis, secret, cache_stats)
    try:
        yield Process(redis, cache, cache_stats)
    finally:
        await cache.close()
        await redis.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await test()

    asyncio.run(main())


async def until(true: Callable[[], bool], seconds: float = 10) -> None:
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("width", [3, 200_000])
def test_what_one_process_fills_another_finds_bit_for_bit(redis_url: str, width: int) -> None:
    async def test() -> None:
        async with process(redis_url) as one, process(redis_url) as other:
            mine = key()
            assert await other.cache.get(mine, HEADER) is None
            await one.filled(mine, width=width)
            found = await other.cache.get(mine, HEADER)
            assert found is not None
            for (name, value), (_, expected) in zip(tensors(found), tensors(weights(width)), strict=True):
                assert torch.equal(value, expected), name
            assert one.cache_stats.counts == {("l2", "filled"): 1}
            assert other.cache_stats.counts == {("l2", "miss"): 1, ("l2", "hit"): 1}

    run(test)


def test_values_lapse(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url) as one:
            mine = key()
            await one.filled(mine)
            assert 0 < await one.redis.send("TTL", str(mine)) <= cache_module.TTL_SECONDS

    run(test)


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda value: value[:-1] + bytes([value[-1] ^ 1]),
    "a bit of the signature": lambda value: bytes([value[0] ^ 1]) + value[1:],
    "truncated": lambda value: value[:-1],
    "only the signature": lambda value: value[:32],
    "part of the signature": lambda value: value[:5],
    "empty": lambda value: b"",
    "longer": lambda value: value + b"\0",
    "unsigned": lambda value: value[32:],
    "nonsense": lambda value: b"\xff" * 100,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_value_is_a_miss(redis_url: str, forge: Callable[[bytes], bytes]) -> None:
    async def test() -> None:
        async with process(redis_url) as one:
            mine = key()
            await one.filled(mine)
            await one.redis.send("SET", str(mine), forge(await one.redis.send("GET", str(mine))))
            assert await one.cache.get(mine, HEADER) is None
            assert one.cache_stats.counts["l2", "refused"] == 1

    run(test)


@pytest.mark.parametrize("part", ["tenant", "learner_digest", "version"])
def test_a_value_of_another_key_is_a_miss(redis_url: str, part: str) -> None:
    """Rightly signed, but moved to where another tenant, learner or version looks."""

    async def test() -> None:
        async with process(redis_url) as one:
            mine = key()
            other = replace(mine, **{part: "other"})
            await one.filled(mine)
            await one.redis.send("SET", str(other), await one.redis.send("GET", str(mine)), "EX", 60)
            assert await one.cache.get(other, HEADER) is None
            assert one.cache_stats.counts["l2", "refused"] == 1

    run(test)


@pytest.mark.parametrize(
    "header",
    [replace(HEADER, seed=8), replace(HEADER, classes=("a", "b")), replace(HEADER, learner_digest="x")],
)
def test_a_value_under_another_secret_or_of_another_header_is_a_miss(redis_url: str, header: Header) -> None:
    async def test() -> None:
        async with process(redis_url) as one, process(redis_url, b"another secret, as long") as foreign:
            mine = key()
            await one.filled(mine)
            assert await foreign.cache.get(mine, HEADER) is None
            assert await one.cache.get(mine, header) is None
            assert foreign.cache_stats.counts["l2", "refused"] == one.cache_stats.counts["l2", "refused"] == 1

    run(test)


def test_a_value_that_is_no_string_is_a_miss(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url) as one:
            mine = key()
            await one.redis.send("RPUSH", str(mine), b"x")
            assert await one.cache.get(mine, HEADER) is None
            assert one.cache_stats.counts == {("l2", "failed"): 1}
            assert not one.redis.away
            await one.cache.delete([mine])

    run(test)


def test_deleted_is_gone_and_a_late_fill_does_not_bring_it_back(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url) as one:
            mine, late = key(), key()
            await one.filled(mine)
            await one.cache.delete([mine, late])
            await one.cache.delete([])
            await one.filled(late, deleted)
            assert await one.redis.send("EXISTS", str(mine), str(late)) == 0

    run(test)


def test_a_fill_whose_version_cannot_be_looked_up_is_taken_back(redis_url: str) -> None:
    async def failing() -> bool:
        raise ConnectionError

    async def test() -> None:
        async with process(redis_url) as one:
            mine = key()
            with pytest.raises(ConnectionError):
                await one.filled(mine, failing)
            assert await one.redis.send("EXISTS", str(mine)) == 0

    run(test)


def test_too_large_is_not_shared(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "VALUE_BYTES", 10)

    async def test() -> None:
        async with process(redis_url) as one:
            mine = key()
            await one.filled(mine)
            assert await one.redis.send("EXISTS", str(mine)) == 0
            assert one.cache_stats.counts == {("l2", "dropped"): 1}

    run(test)


def test_many_at_once_share_round_trips(redis_url: str) -> None:
    async def test() -> None:
        async with process(redis_url) as one:
            before = await one.redis.send("INFO", "stats")
            numbers = await asyncio.gather(*(one.redis.send("ECHO", b"%d" % n) for n in range(1000)))
            assert numbers == [b"%d" % n for n in range(1000)]
            after = await one.redis.send("INFO", "stats")
            reads = "total_reads_processed"
            if reads in before:
                assert int(after[reads]) - int(before[reads]) < 100

    run(test)


def test_away_costs_nothing_and_ends_by_itself(
    own_redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deletions that could not be done are done when it is back, here on a server that kept its keys."""
    monkeypatch.setattr(redis_module, "PROBE_SECONDS", 0.05)

    async def test() -> None:
        async with process(own_redis_server.url) as one:
            mine, doomed = key(), key()
            await one.filled(mine)
            own_redis_server.stop()
            assert await one.cache.get(mine, HEADER) is None
            assert one.redis.away
            started = time.monotonic()
            for _ in range(1000):
                assert await one.cache.get(mine, HEADER) is None
                await one.cache.delete([doomed])
                one.cache.fill(mine, weights(), HEADER, stored)
            assert time.monotonic() - started < 0.5
            with pytest.raises(RedisAwayError):
                await one.redis.send("PING")
            own_redis_server.start()
            with redis.Redis.from_url(own_redis_server.url) as direct:
                direct.set(str(doomed), b"left over")
                await until(lambda: not one.redis.away)
                await until(lambda: not direct.exists(str(doomed)))
            await one.filled(mine)
            assert await one.cache.get(mine, HEADER) is not None

    run(test)


def test_a_server_that_hangs_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "TIMEOUT_SECONDS", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with process(f"redis://127.0.0.1:{port}/0") as one:
            started = time.monotonic()
            found = await asyncio.gather(*(one.cache.get(key(), HEADER) for _ in range(300)))
            assert time.monotonic() - started < 1
            assert set(found) == {None}
            assert one.cache_stats.counts == {("l2", "failed"): 300}
        server.close()

    run(test)


def test_what_waits_is_bounded(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "HELD_BYTES", 100)

    async def test() -> None:
        async with process(redis_url) as one:
            with pytest.raises(RedisAwayError):
                await one.redis.send("ECHO", b"x" * 101)
            assert await one.redis.send("ECHO", b"x" * 100) == b"x" * 100
            assert await one.redis.send("ECHO", b"x" * 100) == b"x" * 100

    run(test)
