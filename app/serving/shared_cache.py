"""The second tier of weights: Redis, shared by all processes. Nothing in it is trusted unless it is signed.

A value is HMAC-SHA256(secret, key ‖ payload) ‖ payload; the payload is safetensors (`models.weights`). Under the key
of another tenant, learner or version, or with one bit changed, it is a miss.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from app.db.redis import RedisAwayError, RedisConnection
from app.serving.cache_stats import CacheStats
from models.protocol import TaskWeights
from models.weights import Header, WeightsError, nbytes, pack, unpack

TTL_SECONDS = 86_400
VALUE_BYTES = 32 << 20
"""Larger weights are not shared: regenerating them costs less."""
LARGE_BYTES = 1 << 18
"""Weights from this size on are packed in a thread, so that other requests do not wait."""
MAX_FILLS = 64
"""Most fills waiting at a time; further tasks are not filled, and are regenerated when they are needed."""
MAX_PENDING_DELETES = 100_000
"""Most keys remembered because they could not be deleted; the rest expires."""
SCAN_COUNT = 1_000
"""Keys scanned in one round trip."""
T = TypeVar("T")
_MAC = hashlib.sha256().digest_size


@dataclass(frozen=True)
class WeightKey:
    """The identity of weights. A version id is never reused, and the weights that it names never change."""

    tenant: str
    learner_digest: str
    version: str

    def __str__(self) -> str:
        return f"hyperserve:weights:1:{self.tenant}:{self.learner_digest}:{self.version}"


class SharedCache:
    """Weights in Redis. If it is away, slow or full of nonsense, weights are regenerated, and nothing raises."""

    def __init__(self, redis: RedisConnection, secret: bytes, cache_stats: CacheStats) -> None:
        self._redis = redis
        self._secret = secret
        self._cache_stats = cache_stats
        self._fills: set[asyncio.Task[None]] = set()
        self._undeleted: dict[str, None] = {}
        self._undeleted_patterns: dict[str, None] = {}
        self._redeleting: asyncio.Task[None] | None = None
        redis.on_return(self._delete_again_later)

    async def get(self, key: WeightKey, header: Header) -> TaskWeights | None:
        """Return the weights under a key if they are those of the header."""
        if self._redis.away:
            self._cache_stats.count("l2", "failed")
            return None
        try:
            value = await self._redis.send("GET", str(key))
        except RedisAwayError:
            self._cache_stats.count("l2", "failed")
            return None
        if value is None:
            self._cache_stats.count("l2", "miss")
            return None
        weights = await _off_loop(len(value), lambda: self._open(key, value, header))
        self._cache_stats.count("l2", "refused" if weights is None else "hit")
        return weights

    def fill(
        self, key: WeightKey, weights: TaskWeights, header: Header, is_stored: Callable[[], Awaitable[bool]]
    ) -> None:
        """Store the weights in the background, if there is time. `is_stored` tells if the version is still in the
        database; it is called after the fill, so that a fill never outlives a deletion."""
        if self._redis.away or len(self._fills) >= MAX_FILLS:
            self._cache_stats.count("l2", "dropped")
            return
        task = asyncio.create_task(self._fill(key, weights, header, is_stored))
        self._fills.add(task)
        task.add_done_callback(self._fills.discard)

    async def delete(self, keys: Collection[WeightKey]) -> None:
        """Delete keys now, or as soon as Redis is back."""
        await self._delete([str(key) for key in keys])

    async def delete_all(self, tenant: str, prefix: str) -> None:
        """Delete a tenant's keys whose version has this prefix, now or as soon as Redis is back."""
        await self._delete_matching(str(WeightKey(tenant, "*", f"{prefix}*")))

    async def close(self) -> None:
        tasks = [*self._fills, *([self._redeleting] if self._redeleting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fill(
        self, key: WeightKey, weights: TaskWeights, header: Header, is_stored: Callable[[], Awaitable[bool]]
    ) -> None:
        stored = False
        try:
            size = nbytes(weights)
            if size > VALUE_BYTES:
                self._cache_stats.count("l2", "dropped")
                return
            value = await _off_loop(size, lambda: self._seal(key, pack(weights, header)))
            await self._redis.send("SET", str(key), value, "EX", TTL_SECONDS)
            stored = await is_stored()
            self._cache_stats.count("l2", "filled" if stored else "dropped")
        except RedisAwayError:
            self._cache_stats.count("l2", "failed")
        finally:
            # Also if it is unknown: a missing value is made again, a superfluous one would never be deleted.
            if not stored:
                await self._delete([str(key)])

    async def _delete(self, keys: Collection[str]) -> None:
        if not keys:
            return
        try:
            await self._redis.send("DEL", *keys)
        except RedisAwayError:
            for key in keys:
                if len(self._undeleted) < MAX_PENDING_DELETES:
                    self._undeleted[key] = None

    async def _delete_matching(self, pattern: str) -> None:
        cursor = b"0"
        try:
            while True:
                cursor, keys = await self._redis.send("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
                await self._delete([key.decode() for key in keys])
                if int(cursor) == 0:
                    return
        except RedisAwayError:
            self._undeleted_patterns[pattern] = None

    def _delete_again_later(self) -> None:
        self._redeleting = asyncio.create_task(self._delete_again())

    async def _delete_again(self) -> None:
        while self._undeleted and not self._redis.away:
            some = list(self._undeleted)[:1000]
            for key in some:
                del self._undeleted[key]
            await self._delete(some)
        patterns = list(self._undeleted_patterns)
        self._undeleted_patterns.clear()
        for pattern in patterns:
            await self._delete_matching(pattern)

    def _mac(self, key: WeightKey, payload: bytes) -> bytes:
        name = str(key).encode()
        mac = hmac.new(self._secret, len(name).to_bytes(4) + name, hashlib.sha256)
        mac.update(payload)
        return mac.digest()

    def _seal(self, key: WeightKey, payload: bytes) -> bytes:
        return self._mac(key, payload) + payload

    def _open(self, key: WeightKey, value: bytes, header: Header) -> TaskWeights | None:
        mac, payload = value[:_MAC], value[_MAC:]
        if not hmac.compare_digest(mac, self._mac(key, payload)):
            return None
        try:
            weights, found = unpack(payload)
        except WeightsError:
            return None
        return weights if found == header else None


async def _off_loop(size: int, work: Callable[[], T]) -> T:
    return work() if size < LARGE_BYTES else await asyncio.to_thread(work)
