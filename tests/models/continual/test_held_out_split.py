"""Examples are held out in proportion, the same every time, and never the last of a class."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.continual.held_out import MOST, held_out_counts, split
from tests.property import examples


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.integers(1, 50), min_size=2, max_size=8), st.integers(0, 500))
def test_as_many_as_asked_but_one_of_each_class_is_left(counts: list[int], wanted: int) -> None:
    held = held_out_counts(counts, wanted)
    assert sum(held) == min(wanted, sum(counts) - len(counts))
    assert all(0 <= kept < count for kept, count in zip(held, counts, strict=True))


def test_a_tenth_by_default_and_no_more_than_some() -> None:
    assert held_out_counts([60, 40]) == [6, 4]
    assert sum(held_out_counts([30_000, 30_000])) == MOST
    assert held_out_counts([1, 1]) == [0, 0]


def test_the_same_seed_keeps_the_same() -> None:
    labels = torch.arange(3).repeat(10)
    learned, kept = split(labels, [1, 2, 3], seed=4)
    assert labels[kept].bincount().tolist() == [1, 2, 3]
    assert sorted(torch.cat((learned, kept)).tolist()) == list(range(30))
    assert kept.equal(split(labels, [1, 2, 3], seed=4)[1])
    assert not kept.equal(split(labels, [1, 2, 3], seed=5)[1])
