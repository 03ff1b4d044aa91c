"""How often each tier of weights was asked, and what came of it. For the metrics."""

from __future__ import annotations

from collections import Counter
from typing import Literal

Tier = Literal["l1", "l2", "l3"]
Outcome = Literal["hit", "miss", "refused", "filled", "dropped", "failed"]


class Tiers:
    """l1 is the arena (hit, miss); l3 is regeneration (hit).

    l2 is Redis: hit, miss, refused (forged, damaged or of something else), filled, dropped (there was no time
    to fill), failed (Redis did not answer).
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[Tier, Outcome]] = Counter()

    def count(self, tier: Tier, outcome: Outcome) -> None:
        """To be called on the event loop."""
        self.counts[tier, outcome] += 1
