"""The arena against simple models of what it must hold, under random use."""

from __future__ import annotations

from collections import OrderedDict

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from app.serving.arena import Arena, ArenaEntry
from app.serving.packing import WORD, PackedWeights
from models.weights import tensors
from tests.app.serving.arenas import ROW, arena_of_rows, packed
from tests.property import examples


class ArenaAgainstDict(RuleBasedStateMachine):
    """One width of row, so that least recent use is exact; a dict says what must be there."""

    keys = Bundle("keys")
    capacity = 63 * 3

    def __init__(self) -> None:
        super().__init__()
        self.arena = arena_of_rows(3)
        self.model: OrderedDict[str, PackedWeights] = OrderedDict()
        self.pins: list[tuple[ArenaEntry, PackedWeights]] = []
        self.count = 0

    def pinned(self, value: PackedWeights) -> bool:
        return any(held is value for _, held in self.pins)

    @rule(target=keys, way=st.integers(1, 70))
    def put(self, way: int) -> str:
        self.count += 1
        key, value = f"k{self.count}", packed(way, float(self.count))
        gone = sum(len(held.rows) for _, held in {id(e): (e, h) for e, h in self.pins if e.gone}.values())
        fits = self.arena.put(key, value)
        used = gone + sum(len(held.rows) for held in self.model.values())
        for other in list(self.model):
            if used + way <= self.capacity:
                break
            if not self.pinned(self.model[other]):
                used -= len(self.model.pop(other).rows)
        assert fits == (used + way <= self.capacity)
        if fits:
            self.model[key] = value
        return key

    @rule(key=keys)
    def put_again(self, key: str) -> None:
        if key in self.model:
            assert self.arena.put(key, packed(1, -1.0))
            self.model.move_to_end(key)

    @rule(key=keys)
    def pin(self, key: str) -> None:
        entry = self.arena.pin(key)
        assert (entry is not None) == (key in self.model)
        if entry is not None:
            self.model.move_to_end(key)
            self.pins.append((entry, self.model[key]))

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        entry, _ = self.pins.pop(data.draw(st.integers(0, len(self.pins) - 1)))
        self.arena.unpin(entry)

    @rule(key=keys)
    def evict(self, key: str) -> None:
        self.arena.evict(key)
        self.model.pop(key, None)

    @precondition(lambda self: self.pins)
    @rule()
    def gather(self) -> None:
        batch = self.arena.gather([entry for entry, _ in self.pins])
        for index, (_, value) in enumerate(self.pins):
            alone = self.arena.gather([value])
            assert batch.select(index).rows["prototype"].equal(alone.rows["prototype"])
            assert not batch.rows["prototype"][index, len(value.rows) :].any()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert list(self.arena._entries) == list(self.model)
        resident = {entry.key: entry for entry in (*self.arena._entries.values(), *(e for e, _ in self.pins))}
        taken = [start for entry in resident.values() for start in entry.rows.tolist()]
        assert len(taken) == len(set(taken))
        assert self.arena.bytes_used == len(taken) * ROW * WORD
        free = torch.ones(len(self.arena._words), dtype=torch.bool)
        for start in taken:
            free[start : start + ROW] = False
        assert not self.arena._words[free].any(), "freed rows are zero"


ArenaAgainstDict.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
TestArenaAgainstDict = ArenaAgainstDict.TestCase


class MixedWidths(RuleBasedStateMachine):
    """Rows and task parts of several widths: whatever is held is intact, and all space comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(64 * 40 * WORD)
        self.values: dict[str, PackedWeights] = {}
        self.pins: list[tuple[ArenaEntry, PackedWeights]] = []

    @rule(
        way=st.integers(0, 40),
        dim=st.sampled_from([1, 6, 7, 30, 100]),
        task_dim=st.sampled_from([0, 1, 9, 80, 333]),
    )
    def put(self, way: int, dim: int, task_dim: int) -> None:
        key = f"k{len(self.values)}"
        self.values[key] = packed(way, float(len(self.values) + 1), dim, task_dim)
        assert self.arena.put(key, self.values[key]) == self.arena.holds(key)

    @precondition(lambda self: len(self.arena))
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.arena._entries)))
        entry = self.arena.pin(key)
        assert entry is not None
        self.pins.append((entry, self.values[key]))

    @precondition(lambda self: self.pins)
    @rule()
    def unpin(self) -> None:
        self.arena.unpin(self.pins.pop()[0])

    @precondition(lambda self: len(self.arena))
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        self.arena.evict(data.draw(st.sampled_from(sorted(self.arena._entries))))

    @invariant()
    def pinned_and_held_are_intact(self) -> None:
        held = [(entry, self.values[key]) for key, entry in self.arena._entries.items()]
        for entry, value in (*self.pins, *held):
            for (name, kept), (_, put) in zip(
                tensors(self.arena.gather([entry])), tensors(self.arena.gather([value])), strict=True
            ):
                assert kept.equal(put), name

    def teardown(self) -> None:
        for entry, _ in self.pins:
            self.arena.unpin(entry)
        for key in list(self.arena._entries):
            self.arena.evict(key)
        assert self.arena.bytes_used == 0
        assert len(self.arena._slabs._unused) == 63
        assert not self.arena._words.any()


MixedWidths.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestMixedWidths = MixedWidths.TestCase
