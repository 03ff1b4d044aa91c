"""What ties the processes of one service together: news through the database, wake-ups and weights through Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.core.secret import secret_of
from app.core.settings import Settings
from app.db.engine import Database
from app.db.invalidation_log import Watcher
from app.db.redis import Link
from app.db.wakeups import WakeUps
from app.serving.shared_cache import SharedCache
from app.serving.cache_stats import CacheStats


@dataclass(frozen=True)
class Cluster:
    """Listeners are to be given to `watcher` before `run` starts."""

    watcher: Watcher
    cache_stats: CacheStats
    cache: SharedCache | None
    """None without Redis."""
    wake_ups: WakeUps | None

    async def run(self) -> None:
        """Until cancelled."""
        runs = [self.watcher.run(), *([] if self.wake_ups is None else [self.wake_ups.run()])]
        await asyncio.gather(*runs)


@asynccontextmanager
async def joined_cluster(settings: Settings, database: Database) -> AsyncIterator[Cluster]:
    """To be entered before anything is kept in memory: news are heard from here on. Raises `SecretError`."""
    secret = secret_of(settings)
    # A connection of its own: requests that wait for theirs do not keep news waiting.
    news = Database(settings.database, connections=1)
    watcher, cache_stats = Watcher(news), CacheStats()
    await watcher.begin()
    try:
        if settings.redis_url is None:
            database.on_news = watcher.wake
            yield Cluster(watcher, cache_stats, None, None)
            return
        link = Link(settings.redis_url)
        cache, wake_ups = SharedCache(link, secret, cache_stats), WakeUps(settings.redis_url, link, watcher)
        database.on_news = wake_ups.tell
        try:
            yield Cluster(watcher, cache_stats, cache, wake_ups)
        finally:
            await cache.close()
            await link.close()
    finally:
        await news.close()
