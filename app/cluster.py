"""The ties between the processes of one service: changes through the database, wake-ups and weights through Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.core.secret import secret_of
from app.core.settings import Settings
from app.db.database import Database
from app.db.invalidation_log import ChangeWatcher
from app.db.redis import RedisConnection
from app.db.wake_ups import WakeUps
from app.serving.cache_stats import CacheStats
from app.serving.shared_cache import SharedCache


@dataclass(frozen=True)
class Cluster:
    """This process's part in the cluster. Listeners must subscribe to `watcher` before `run` starts."""

    watcher: ChangeWatcher
    cache_stats: CacheStats
    shared_cache: SharedCache | None
    """None without Redis."""
    wake_ups: WakeUps | None

    async def run(self) -> None:
        """Watch for changes and wake-ups until cancelled."""
        runs = [self.watcher.run(), *([] if self.wake_ups is None else [self.wake_ups.run()])]
        await asyncio.gather(*runs)


@asynccontextmanager
async def joined_cluster(settings: Settings, database: Database) -> AsyncIterator[Cluster]:
    """Join the cluster before anything is kept in memory: changes from here on are delivered.

    Raises `SecretError`, `DatabaseError`.
    """
    secret = secret_of(settings)
    # A connection of its own: requests that wait for theirs do not delay changes.
    watched = Database(settings.database, connections=1)
    watcher, cache_stats = ChangeWatcher(watched), CacheStats()
    try:
        await watcher.begin()
        if settings.redis_url is None:
            database.on_change = watcher.wake
            yield Cluster(watcher, cache_stats, None, None)
            return
        redis = RedisConnection(settings.redis_url)
        shared_cache = SharedCache(redis, secret, cache_stats)
        wake_ups = WakeUps(settings.redis_url, redis, watcher)
        database.on_change = wake_ups.notify
        try:
            yield Cluster(watcher, cache_stats, shared_cache, wake_ups)
        finally:
            await shared_cache.close()
            await redis.close()
    finally:
        await watched.close()
