"""The arena keeps weights exactly, makes room by least recent use, and never touches what is in use."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from app.serving.arena import Arena, Entry
from app.serving.packing import WORD, Packed
from models.protocol import TaskWeights
from models.weights import nbytes, tensors

CPU = torch.device("cpu")
ROW = 4
"""Words of a row of `packed`: the class key and six float32."""


def weights(way: int, value: float = 1.0, dim: int = 6, task_dim: int = 0) -> TaskWeights:
    return TaskWeights(
        task={"bias": torch.full((1, task_dim), float(value))} if task_dim else {},
        rows={"prototype": torch.full((1, way, dim), float(value))},
        n_way=torch.tensor([way]),
        class_key=torch.arange(1, way + 1)[None],
        seed=torch.tensor([int(value)]),
    )


def packed(way: int, value: float = 1.0, dim: int = 6, task_dim: int = 0) -> Packed:
    return Packed.of(weights(way, value, dim, task_dim), CPU)


def arena_of_rows(rows_per_slab: int) -> Arena:
    """63 usable slabs of `rows_per_slab` rows of `packed`."""
    return Arena(64 * rows_per_slab * ROW * WORD)


def read(arena: Arena, key: str) -> TaskWeights | None:
    entry = arena.pin(key)
    if entry is None:
        return None
    gathered = arena.gather([entry])
    arena.unpin(entry)
    return gathered


def test_gives_back_what_was_put_whatever_its_types() -> None:
    arena = Arena(1 << 20)
    original = TaskWeights(
        task={
            "scale": torch.randn(1),
            "mask": torch.tensor([[True, False, True]]),
            "net": torch.randn(1, 3, 5),
        },
        rows={
            "a": torch.randn(1, 7, 3, 2).double(),
            "b": torch.randn(1, 7).half(),
            "c": torch.arange(7)[None],
        },
        n_way=torch.tensor([7]),
        class_key=torch.randint(-(2**63), 2**63 - 1, (1, 7)),
        seed=torch.tensor([-(2**63)]),
    )
    assert arena.put("k", Packed.of(original, CPU))
    found = read(arena, "k")
    assert found is not None
    for (name, value), (_, kept) in zip(tensors(original), tensors(found), strict=True):
        assert (value.dtype, value.shape) == (kept.dtype, kept.shape), name
        assert value.equal(kept), name
    assert found.n_way.equal(original.n_way)
    assert found.seed.equal(original.seed)


def test_a_batch_is_padded_with_zeros_and_mixes_kept_with_loose() -> None:
    arena = Arena(1 << 20)
    arena.put("five", packed(5, 2.0, task_dim=3))
    arena.put("one", packed(1, 3.0, task_dim=3))
    five, one = arena.pin("five"), arena.pin("one")
    assert five is not None
    assert one is not None
    batch = arena.gather([one, packed(2, 4.0, task_dim=3), five])
    assert batch.n_way.tolist() == [1, 2, 5]
    assert batch.rows["prototype"][..., 0].tolist() == [[3, 0, 0, 0, 0], [4, 4, 0, 0, 0], [2, 2, 2, 2, 2]]
    assert batch.class_key.tolist() == [[1, 0, 0, 0, 0], [1, 2, 0, 0, 0], [1, 2, 3, 4, 5]]
    assert batch.task["bias"][:, 0].tolist() == [3, 4, 2]
    assert batch.seed.tolist() == [3, 4, 2]


def test_five_ways_beside_a_hundred_and_fifty_cost_five_rows() -> None:
    arena = Arena(1 << 20)
    arena.put("large", packed(150))
    before = arena.bytes_used
    arena.put("small", packed(5))
    assert arena.bytes_used - before == 5 * ROW * WORD


def test_bytes_are_those_of_the_weights() -> None:
    arena = Arena(16 << 20)
    kept = [weights(5, float(index), dim=64) for index in range(500)]
    for index, one in enumerate(kept):
        arena.put(str(index), Packed.of(one, CPU))
    assert arena.bytes_used <= 1.0 * sum(map(nbytes, kept))


def test_least_recently_used_makes_room() -> None:
    arena = arena_of_rows(4)
    for index in range(63):
        arena.put(str(index), packed(4, index))
    assert all(arena.holds(str(index)) for index in range(63))
    assert read(arena, "0") is not None
    assert arena.put("new", packed(3))
    assert arena.holds("0")
    assert not arena.holds("1")
    assert arena.holds("2")


def test_what_is_in_use_stays() -> None:
    arena = arena_of_rows(1)
    for index in range(63):
        arena.put(str(index), packed(1, index))
    pinned = [arena.pin(str(index)) for index in range(62)]
    assert arena.put("a", packed(1))
    assert not arena.holds("62")
    arena.pin("a")
    assert not arena.put("b", packed(1)), "everything is in use, so it must be declined"
    for index, entry in enumerate(pinned):
        assert entry is not None
        assert arena.gather([entry]).rows["prototype"][0, 0, 0] == index


def test_evicted_rows_are_zeroed_once_nobody_uses_them() -> None:
    arena = Arena(1 << 20)
    arena.put("k", packed(3, 5.0, task_dim=4))
    entry = arena.pin("k")
    assert entry is not None
    arena.evict("k")
    assert not arena.holds("k")
    assert arena.gather([entry]).rows["prototype"].eq(5).all(), "a query in flight still gets its answer"
    arena.put("k", packed(3, 6.0, task_dim=4))
    assert arena.gather([entry]).rows["prototype"].eq(5).all()
    arena.unpin(entry)
    arena.evict("k")
    assert arena.bytes_used == 0
    assert not arena._words.any()


def test_putting_twice_and_evicting_the_unknown_change_nothing() -> None:
    arena = Arena(1 << 20)
    arena.put("k", packed(3, 5.0))
    assert arena.put("k", packed(3, 6.0))
    arena.evict("other")
    found = read(arena, "k")
    assert found is not None
    assert found.rows["prototype"].eq(5).all()


@pytest.mark.parametrize("too_big", [packed(64 * 4, 1.0), packed(1, dim=1000), packed(1, task_dim=1000)])
def test_what_can_never_fit_is_declined_and_evicts_nobody(too_big: Packed) -> None:
    arena = arena_of_rows(4)
    arena.put("k", packed(4))
    assert not arena.put("big", too_big)
    assert arena.holds("k")
    gathered = arena.gather([too_big])
    assert gathered.rows["prototype"].eq(1).all()


def test_learners_of_other_shapes_take_over_whole_slabs() -> None:
    arena = arena_of_rows(4)
    for index in range(63):
        arena.put(str(index), packed(4, index))
    assert arena.put("wide", packed(1, 7.0, dim=14))
    assert [index for index in range(63) if not arena.holds(str(index))] == [0]
    arena.evict("wide")
    assert arena.put("narrow", packed(4, 8.0))
    assert len(arena) == 63


class ArenaAgainstDict(RuleBasedStateMachine):
    """One width of row, so that least recent use is exact; a dict says what must be there."""

    keys = Bundle("keys")
    capacity = 63 * 3

    def __init__(self) -> None:
        super().__init__()
        self.arena = arena_of_rows(3)
        self.model: OrderedDict[str, Packed] = OrderedDict()
        self.pins: list[tuple[Entry, Packed]] = []
        self.count = 0

    def pinned(self, value: Packed) -> bool:
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


ArenaAgainstDict.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestArenaAgainstDict = ArenaAgainstDict.TestCase


class MixedWidths(RuleBasedStateMachine):
    """Rows and task parts of several widths: whatever is held is intact, and all space comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(64 * 40 * WORD)
        self.values: dict[str, Packed] = {}
        self.pins: list[tuple[Entry, Packed]] = []

    @rule(
        way=st.integers(0, 40),
        dim=st.sampled_from([1, 6, 7, 30, 100]),
        task_dim=st.sampled_from([0, 1, 9, 80]),
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


MixedWidths.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMixedWidths = MixedWidths.TestCase
