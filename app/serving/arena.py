"""The first tier of weights: one preallocated block on the device, paged by class rows.

The block is cut into slabs; a slab belongs to one line width at a time and is carved into lines of exactly
that width, so a 5-way task costs five rows beside a 150-way one and learners of any shape share the memory.
Least recently used tasks make room; a task in use (pinned) never does. Freed lines are zeroed.
Slab 0 stays zero: padding is gathered from it. Weights of a task as a whole that are wider than a slab (1/64 of
the arena), such as a generated network, lie in several lines, its pages.

A task that does not fit even an empty arena, or whose class row exceeds a slab, is declined: the caller serves
it without storing it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from app.serving.packing import WORD, Layout, PackedWeights
from models.protocol import TaskWeights


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
        """Return true if (width, lines) pairs would fit if everything else were gone."""
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
        """Return the starts of `lines` free lines, in words. `has` must have been true."""
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


_SLABS = 64
_PAGES = 8
"""Fewest pages to a slab, so that little of it is left over."""


@dataclass(eq=False, slots=True)
class ArenaEntry:
    """A resident task: the starts of its lines (in words), and the number of requests in flight that need it."""

    key: str
    layout: Layout
    seed: int
    rows: Int64[np.ndarray, "way"]
    task: Int64[np.ndarray, "pages"]
    page_words: int
    pins: int = 0
    gone: bool = False

    @property
    def way(self) -> int:
        return self.rows.size

    @property
    def nbytes(self) -> int:
        return WORD * (self.rows.size * self.layout.row_words + self.task.size * self.page_words)


class Arena:
    """The weights of resident tasks. Thread-safe. Keys name immutable weights: putting one twice changes nothing."""

    def __init__(self, nbytes: int, device: torch.device | str = "cpu") -> None:
        slab_words = max(1, nbytes // WORD // _SLABS)
        # By NumPy, which callocs: on a CPU, memory that no task has touched is not resident. torch fills it.
        self._words = torch.from_numpy(np.zeros(_SLABS * slab_words, dtype=np.int64)).to(device)
        self._slabs = Slabs(slab_words, _SLABS, reserved=1)
        self._entries: OrderedDict[str, ArenaEntry] = OrderedDict()
        self._residents: dict[int, set[ArenaEntry]] = {}
        self._lock = threading.Lock()
        self.bytes_used = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def device(self) -> torch.device:
        return self._words.device

    @property
    def nbytes(self) -> int:
        return WORD * self._words.numel()

    def keys(self) -> list[str]:
        with self._lock:
            return list(self._entries)

    def holds(self, key: str) -> bool:
        return key in self._entries

    def put(self, key: str, weights: PackedWeights) -> bool:
        """Store the weights under `key`, evicting others if need be. Return false if they do not fit."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return True
            entry = self._place(key, weights)
            if entry is None:
                return False
            self._entries[key] = entry
            for slab in self._slabs_of(entry):
                self._residents.setdefault(slab, set()).add(entry)
            self.bytes_used += entry.nbytes
            return True

    def pin(self, key: str) -> ArenaEntry | None:
        """Return the entry, protected and marked as just used, or None. Every pin needs its `unpin`."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                entry.pins += 1
            return entry

    def unpin(self, entry: ArenaEntry) -> None:
        with self._lock:
            entry.pins -= 1
            if entry.gone and entry.pins == 0:
                self._free(entry)

    def evict(self, key: str) -> None:
        """Drop a key at once; its rows are zeroed now, or when the last request in flight is done."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None:
                return
            entry.gone = True
            if entry.pins == 0:
                self._free(entry)

    def gather(self, sources: Sequence[ArenaEntry | PackedWeights]) -> TaskWeights:
        """Return the weights of several tasks of one layout as a padded batch. Entries must be pinned."""
        layout = sources[0].layout
        ways = [source.way for source in sources]
        starts = np.zeros((len(sources), max(ways)), dtype=np.int64)
        page_words, pages = self._pages(layout)
        task_starts = np.zeros((len(sources), pages), dtype=np.int64)
        loose = []
        for index, (source, way) in enumerate(zip(sources, ways, strict=True)):
            if isinstance(source, PackedWeights):
                loose.append((index, source))
            else:
                starts[index, :way] = source.rows
                task_starts[index] = source.task
        rows = self._lines(layout.row_words, starts)
        task = self._lines(page_words, task_starts).view(len(sources), -1)[:, : layout.task_words]
        for index, packed in loose:
            rows[index, : packed.way] = packed.rows
            task[index] = packed.task
        n_way = torch.from_numpy(np.array(ways)).to(self.device)
        seed = torch.from_numpy(np.array([source.seed for source in sources])).to(self.device)
        return layout.unpack(rows, task, n_way, seed)

    def _pages(self, layout: Layout) -> tuple[int, int]:
        """Return the words of a line of the task as a whole, and the number of such lines."""
        words, most = layout.task_words, self._slabs.words
        if words <= most:
            return words, 1 if words else 0
        pages = -(-words // max(1, most // _PAGES))
        return -(-words // pages), pages

    def _table(self, width: int) -> Int64[Tensor, "start width"]:
        """Return any `width` words by their start: an overlapping view, in which one index finds any line."""
        return self._words.as_strided((self._words.numel() - width + 1, width), (1, 1))

    def _lines(self, width: int, starts: Int64[np.ndarray, "*lead"]) -> Int64[Tensor, "*lead width"]:
        if width > self._slabs.words or not starts.size:
            # Only tasks that are not in the arena are that wide.
            return self._words.new_zeros((*starts.shape, width))
        index = torch.from_numpy(starts.reshape(-1)).to(self.device)
        return self._table(width).index_select(0, index).view(*starts.shape, width)

    def _place(self, key: str, weights: PackedWeights) -> ArenaEntry | None:
        layout = weights.layout
        page_words, pages = self._pages(layout)
        needs = [(layout.row_words, weights.way), (page_words, pages)]
        if not self._slabs.could_hold(needs):
            return None
        starts: list[Int64[np.ndarray, "lines"]] = []
        for width, lines in needs:
            if not self._make_room(width, lines):
                for (taken, _), freed in zip(needs, starts, strict=False):
                    self._slabs.give_back(taken, freed)
                return None
            starts.append(self._slabs.take(width, lines))
        padded = nn.functional.pad(weights.task, (0, page_words * pages - layout.task_words))
        for (width, _), at, words in zip(
            needs, starts, (weights.rows, padded.view(pages, page_words)), strict=True
        ):
            if at.size:
                self._table(width).index_copy_(0, torch.from_numpy(at).to(self.device), words.to(self.device))
        rows, task = starts
        return ArenaEntry(key, layout, weights.seed, rows, task, page_words)

    def _make_room(self, width: int, lines: int) -> bool:
        """Evict until `lines` lines of `width` are free. Return false if all that remains is in use."""
        while not self._slabs.has(width, lines):
            victim = next((entry for entry in self._entries.values() if not entry.pins), None)
            if victim is None:
                return False
            for entry in self._casualties(victim, width):
                del self._entries[entry.key]
                self._free(entry)
        return True

    def _casualties(self, victim: ArenaEntry, width: int) -> list[ArenaEntry]:
        """Return the entries to evict with the victim: lines of another width help only as a whole slab."""
        if width in (victim.layout.row_words, victim.page_words):
            return [victim]
        slabs = self._slabs_of(victim)
        neighbours = self._residents[min(slabs)] if slabs else {victim}
        return [victim] if any(entry.pins for entry in neighbours) else list(neighbours)

    def _free(self, entry: ArenaEntry) -> None:
        self.bytes_used -= entry.nbytes
        for slab in self._slabs_of(entry):
            self._residents[slab].discard(entry)
        for width, starts in ((entry.layout.row_words, entry.rows), (entry.page_words, entry.task)):
            if starts.size:
                self._table(width).index_fill_(0, torch.from_numpy(starts).to(self.device), 0)
                self._slabs.give_back(width, starts)

    def _slabs_of(self, entry: ArenaEntry) -> set[int]:
        lines = np.concatenate((entry.rows, entry.task))
        return set((lines // self._slabs.words).tolist())
