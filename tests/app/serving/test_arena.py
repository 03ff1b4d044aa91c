"""The arena keeps weights exactly, makes room by least recent use, and never touches what is in use."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.serving.arena import Arena
from app.serving.packing import WORD, PackedWeights
from models.protocol import TaskWeights
from models.weights import nbytes, tensors
from tests.app.serving.arenas import (
    CPU,
    ROW,
    arena_of_rows,
    kernel_machine,
    packed,
    read,
    weights,
)

STATM = Path("/proc/self/statm")
"""Sizes of this process in pages; the second is what is resident."""
RESIDENT = f"""
from pathlib import Path
from app.serving.arena import Arena
before = int(Path("{STATM}").read_text().split()[1])
arena = Arena(256 << 20)
assert arena.nbytes == 256 << 20
print(int(Path("{STATM}").read_text().split()[1]) - before)
"""


@pytest.mark.skipif(not STATM.exists(), reason="asks Linux")
def test_memory_that_no_task_has_touched_is_not_resident() -> None:
    # A process of its own: earlier tests change how this one allocates.
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    assert int(done.stdout) * resource.getpagesize() < 32 << 20


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
    assert arena.put("k", PackedWeights.of(original, CPU))
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


def test_tasks_of_nearly_as_many_points_are_gathered_together() -> None:
    arena = Arena(1 << 20)
    sizes = ((2, 9, 1.0), (3, 10, 2.0), (1, 10, 3.0))
    originals = [kernel_machine(*size) for size in sizes]
    for index, one in enumerate(originals):
        assert arena.put(str(index), PackedWeights.of(one, CPU))
    entries = [entry for index in range(3) if (entry := arena.pin(str(index))) is not None]
    assert len({id(entry.layout) for entry in entries}) == 1
    batch = arena.gather(entries)
    assert batch.n_points is not None
    assert batch.n_points.tolist() == [9, 10, 10]
    assert batch.points["place"].shape == (3, 10, 3)
    assert batch.coefficients["alpha"].shape == (3, 3, 10, 2)
    assert batch.points["place"][0, 9].tolist() == [0, 0, 0], "padding is zero"
    assert not batch.coefficients["alpha"][0, :, 9].any()
    assert not batch.coefficients["alpha"][0, 2].any()
    for index, original in enumerate(originals):
        found = dict(tensors(batch.select(index)))
        assert found.keys() == dict(tensors(original)).keys()
        for name, value in tensors(original):
            assert found[name].equal(value), name


@given(st.integers(0, 600), st.integers(1, 4))
def test_points_are_padded_by_at_most_a_quarter(count: int, way: int) -> None:
    kept = PackedWeights.of(kernel_machine(way, count), CPU)
    found = Arena(1 << 16).gather([kept])
    room = found.points["place"].shape[1]
    assert count <= room <= max(count, 5 * count / 4)
    assert dict(tensors(found.select(0)))["points.place"].shape[1] == count


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
        arena.put(str(index), PackedWeights.of(one, CPU))
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


@pytest.mark.parametrize("too_big", [packed(64 * 4, 1.0), packed(1, dim=1000), packed(1, task_dim=2100)])
def test_what_can_never_fit_is_declined_and_evicts_nobody(too_big: PackedWeights) -> None:
    arena = arena_of_rows(4)
    arena.put("k", packed(4))
    assert not arena.put("big", too_big)
    assert arena.holds("k")
    gathered = arena.gather([too_big])
    assert gathered.rows["prototype"].eq(1).all()


def test_a_network_wider_than_a_slab_lies_in_pages_of_its_own_size() -> None:
    arena = Arena(64 * 40 * WORD)
    wide = packed(2, 3.0, task_dim=1001)
    assert arena.put("wide", wide)
    assert arena.put("other", packed(2, 4.0, task_dim=1001))
    found = read(arena, "wide")
    assert found is not None
    assert found.task["bias"].equal(torch.full((1, 1001), 3.0))
    assert arena.bytes_used <= 1.1 * 2 * wide.nbytes
    entry = arena.pin("other")
    assert entry is not None
    assert arena.gather([wide, entry]).task["bias"][:, ::500].tolist() == [[3.0] * 3, [4.0] * 3]


def test_learners_of_other_shapes_take_over_whole_slabs() -> None:
    arena = arena_of_rows(4)
    for index in range(63):
        arena.put(str(index), packed(4, index))
    assert arena.put("wide", packed(1, 7.0, dim=14))
    assert [index for index in range(63) if not arena.holds(str(index))] == [0]
    arena.evict("wide")
    assert arena.put("narrow", packed(4, 8.0))
    assert len(arena) == 63
