"""What is not counted as it happens is looked at: before Prometheus is answered, and regularly besides."""

from __future__ import annotations

import asyncio
from collections import Counter

from app.serving.cache_stats import Outcome, Tier, CacheStats
from app.serving.engine import Engine
from app.telemetry.metrics import ARENA_BYTES, ARENA_LIMIT, QUEUE_LENGTH, WEIGHTS

SECONDS = 1.0


class Sampler:
    """Belongs to the event loop. One of several serving processes is asked for what the others saw last."""

    def __init__(self, engine: Engine, cache_stats: CacheStats) -> None:
        self._engine = engine
        self._cache_stats = cache_stats
        self._told: Counter[tuple[Tier, Outcome]] = Counter()

    def sample(self) -> None:
        load = self._engine.load_now()
        ARENA_BYTES.set(load.arena_bytes)
        ARENA_LIMIT.set(load.arena_limit)
        QUEUE_LENGTH.set(load.waiting)
        counts = self._cache_stats.counts.copy()
        for (tier, outcome), more in (counts - self._told).items():
            WEIGHTS.labels(tier, outcome).inc(more)
        self._told = counts

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SECONDS)
