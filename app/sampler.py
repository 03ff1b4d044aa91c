"""Metrics that are read rather than counted as they happen: before each scrape, and regularly besides."""

from __future__ import annotations

import asyncio
from collections import Counter

from app.serving.cache_stats import CacheStats, Outcome, Tier
from app.serving.engine import Engine
from app.telemetry.metrics import ARENA_BYTES, ARENA_LIMIT, QUEUE_LENGTH, WEIGHTS

SECONDS = 1.0


class MetricsSampler:
    """Samples the engine on the event loop. Of several serving processes, the scraped one shows the others' last."""

    def __init__(self, engine: Engine, cache_stats: CacheStats) -> None:
        self._engine = engine
        self._cache_stats = cache_stats
        self._reported: Counter[tuple[Tier, Outcome]] = Counter()

    def sample(self) -> None:
        load = self._engine.load_now()
        ARENA_BYTES.set(load.arena_bytes)
        ARENA_LIMIT.set(load.arena_limit)
        QUEUE_LENGTH.set(load.waiting)
        counts = self._cache_stats.counts.copy()
        for (tier, outcome), more in (counts - self._reported).items():
            WEIGHTS.labels(tier, outcome).inc(more)
        self._reported = counts

    async def run(self) -> None:
        """Sample once a second until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SECONDS)
