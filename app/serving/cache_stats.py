"""Counts of hits and misses in each tier of weights, for the metrics."""

from __future__ import annotations

from collections import Counter
from typing import Literal

Tier = Literal["l1", "l2", "l3"]
Outcome = Literal["hit", "miss", "refused", "filled", "dropped", "failed"]


class CacheStats:
    """l1 is the arena (hit, miss); l3 is regeneration (hit).

    l2 is Redis: hit, miss, refused (forged, damaged, or of something else), filled, dropped (no time to fill),
    failed (Redis did not answer).
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Tier, Outcome]] = Counter()

    def count(self, tier: Tier, outcome: Outcome) -> None:
        """Count one outcome. Call it on the event loop."""
        self.counts[tier, outcome] += 1
