"""Which lines of the arena are free. Counts only: knows neither tensors nor tasks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int64


class Slabs:
    """Slabs of `words` words. One is carved into lines of a single width while any of its lines is taken."""

    def __init__(self, words: int, count: int, reserved: int) -> None:
        self.words = words
        self._unused = list(range(count - 1, reserved - 1, -1))
        self._total = count - reserved
        self._open: dict[int, dict[int, list[int]]] = {}
        """Width → slab → starts of its free lines; slabs without a free line are left out."""
        self._free: dict[int, int] = {}
        """Width → number of free lines in its open slabs."""

    def could_hold(self, needs: Iterable[tuple[int, int]]) -> bool:
        """Whether (width, lines) pairs would fit if everything else were gone."""
        slabs = 0
        for width, lines in needs:
            if lines and width > self.words:
                return False
            slabs += -(-lines // (self.words // width)) if lines else 0
        return slabs <= self._total

    def has(self, width: int, lines: int) -> bool:
        missing = lines - self._free.get(width, 0)
        return missing <= 0 or missing <= len(self._unused) * (self.words // width)

    def take(self, width: int, lines: int) -> Int64[np.ndarray, "lines"]:
        """Starts of `lines` lines, in words. The caller has asked `has`."""
        slabs = self._open.setdefault(width, {})
        taken: list[int] = []
        while len(taken) < lines:
            slab = next(iter(slabs)) if slabs else self._carve(width)
            free = slabs[slab]
            taken += [free.pop() for _ in range(min(len(free), lines - len(taken)))]
            if not free:
                del slabs[slab]
        self._free[width] = self._free.get(width, 0) - lines
        return np.array(taken, dtype=np.int64)

    def give_back(self, width: int, starts: Int64[np.ndarray, "lines"]) -> None:
        slabs, full = self._open.setdefault(width, {}), self.words // width if width else 0
        for start in starts.tolist():
            slabs.setdefault(start // self.words, []).append(start)
        self._free[width] = self._free.get(width, 0) + len(starts)
        for slab in {start // self.words for start in starts.tolist()}:
            if len(slabs[slab]) == full:
                del slabs[slab]
                self._unused.append(slab)
                self._free[width] -= full

    def _carve(self, width: int) -> int:
        slab = self._unused.pop()
        first = slab * self.words
        lines = self.words // width
        self._open[width][slab] = [first + line * width for line in range(lines - 1, -1, -1)]
        self._free[width] = self._free.get(width, 0) + lines
        return slab
