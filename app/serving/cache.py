"""The second tier of weights: Redis, shared by all processes. Nothing in it is believed unless it is signed.

A value is HMAC-SHA256(secret, key ‖ payload) ‖ payload; the payload is safetensors (`models.weights`). Under the key
of another tenant, learner or version, or changed by a bit, it is a miss.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from app.db.redis import Link, RedisAwayError
from app.serving.cache_stats import Tiers
from models.protocol import TaskWeights
from models.weights import Header, WeightsError, pack, unpack

TTL_SECONDS = 86_400
VALUE_BYTES = 32 << 20
"""Beyond it weights are not shared: regenerating them costs less."""
LARGE_BYTES = 1 << 18
"""From here on packing would hold up other requests."""
FILLS = 64
"""That wait at a time; beyond it a task is not filled, and regenerated where it is needed."""
DOOMED = 100_000
"""Keys that could not be deleted and are remembered; the rest lapses."""
SCANNED = 1_000
"""Keys that are looked at in one round trip."""
T = TypeVar("T")
_MAC = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Key:
    """Whose weights. A version id is never used again, and what it names never changes."""

    tenant: str
    learner_digest: str
    version: str

    def __str__(self) -> str:
        return f"hyperserve:weights:1:{self.tenant}:{self.learner_digest}:{self.version}"


class Cache:
    """Away, slow or full of nonsense: the weights are regenerated then, and nothing raises."""

    def __init__(self, link: Link, secret: bytes, tiers: Tiers) -> None:
        self._link = link
        self._secret = secret
        self._tiers = tiers
        self._fills: set[asyncio.Task[None]] = set()
        self._doomed: dict[str, None] = {}
        self._doomed_patterns: dict[str, None] = {}
        self._burying: asyncio.Task[None] | None = None
        link.on_return(self._bury_later)

    async def get(self, key: Key, header: Header) -> TaskWeights | None:
        """The weights under a key, if they are what the header says."""
        if self._link.away:
            self._tiers.count("l2", "failed")
            return None
        try:
            value = await self._link.send("GET", str(key))
        except RedisAwayError:
            self._tiers.count("l2", "failed")
            return None
        if value is None:
            self._tiers.count("l2", "miss")
            return None
        weights = await _off_loop(len(value), lambda: self._open(key, value, header))
        self._tiers.count("l2", "refused" if weights is None else "hit")
        return weights

    def fill(
        self, key: Key, weights: TaskWeights, header: Header, still: Callable[[], Awaitable[bool]]
    ) -> None:
        """Soon, and only if there is time. `still` says whether the version is stored; asked after the fill, so
        that a deletion is never overtaken."""
        if self._link.away or len(self._fills) >= FILLS:
            self._tiers.count("l2", "dropped")
            return
        task = asyncio.create_task(self._fill(key, weights, header, still))
        self._fills.add(task)
        task.add_done_callback(self._fills.discard)

    async def delete(self, keys: Collection[Key]) -> None:
        """Now, or as soon as Redis is back."""
        await self._delete([str(key) for key in keys])

    async def delete_all(self, tenant: str, prefix: str) -> None:
        """All keys of a tenant whose version begins so, now or as soon as Redis is back. `prefix` is an id."""
        await self._delete_matching(str(Key(tenant, "*", f"{prefix}*")))

    async def close(self) -> None:
        tasks = [*self._fills, *([self._burying] if self._burying else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fill(
        self, key: Key, weights: TaskWeights, header: Header, still: Callable[[], Awaitable[bool]]
    ) -> None:
        stored = False
        try:
            size = sum(value.nbytes for value in (*weights.rows.values(), *weights.task.values()))
            if size > VALUE_BYTES:
                self._tiers.count("l2", "dropped")
                return
            value = await _off_loop(size, lambda: self._seal(key, pack(weights, header)))
            await self._link.send("SET", str(key), value, "EX", TTL_SECONDS)
            stored = await still()
            self._tiers.count("l2", "filled" if stored else "dropped")
        except RedisAwayError:
            self._tiers.count("l2", "failed")
        finally:
            # Also where it is not known: what is missing is made again, what is too much is not deleted again.
            if not stored:
                await self._delete([str(key)])

    async def _delete(self, keys: Collection[str]) -> None:
        if not keys:
            return
        try:
            await self._link.send("DEL", *keys)
        except RedisAwayError:
            for key in keys:
                if len(self._doomed) < DOOMED:
                    self._doomed[key] = None

    async def _delete_matching(self, pattern: str) -> None:
        cursor = b"0"
        try:
            while True:
                cursor, keys = await self._link.send("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)
                await self._delete([key.decode() for key in keys])
                if int(cursor) == 0:
                    return
        except RedisAwayError:
            self._doomed_patterns[pattern] = None

    def _bury_later(self) -> None:
        self._burying = asyncio.create_task(self._bury())

    async def _bury(self) -> None:
        while self._doomed and not self._link.away:
            some = list(self._doomed)[:1000]
            for key in some:
                del self._doomed[key]
            await self._delete(some)
        patterns = list(self._doomed_patterns)
        self._doomed_patterns.clear()
        for pattern in patterns:
            await self._delete_matching(pattern)

    def _mac(self, key: Key, payload: bytes) -> bytes:
        name = str(key).encode()
        mac = hmac.new(self._secret, len(name).to_bytes(4) + name, hashlib.sha256)
        mac.update(payload)
        return mac.digest()

    def _seal(self, key: Key, payload: bytes) -> bytes:
        return self._mac(key, payload) + payload

    def _open(self, key: Key, value: bytes, header: Header) -> TaskWeights | None:
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
