"""Batches are cut where padding would cost more than it saves."""

from __future__ import annotations

import asyncio

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.serving.arena import Arena
from app.serving.batched_calls import cut
from app.serving.calls import AdaptCall, Call, PredictCall
from app.serving.packing import PackedWeights
from app.serving.served_models import ServedLearner
from models.protocol import TaskWeights
from tests.app.serving.learners import Noisy, artifact

SERVED = ServedLearner.of(artifact("noisy", Noisy()), torch.device("cpu"))
LOOP = asyncio.new_event_loop()


def call(way: int, size: int) -> Call:
    made = AdaptCall(
        served=SERVED,
        flow=0,
        x=torch.zeros(0, 1),
        future=LOOP.create_future(),
        loop=LOOP,
        y=torch.zeros(size).long().numpy(),
        class_keys=[0] * way,
        seed=0,
    )
    made.embedded.append(torch.zeros(size, 1))
    return made


def cells(batch: list[Call]) -> int:
    return len(batch) * max(one.way for one in batch) * max(len(one.features) for one in batch)


def test_alike_tasks_stay_together() -> None:
    assert [len(batch) for batch in cut([call(5, 1) for _ in range(100)])] == [100]


def test_a_huge_task_runs_apart_from_many_small_ones() -> None:
    batches = cut([call(1000, 1024), *(call(5, 1) for _ in range(100))])
    assert sorted(len(batch) for batch in batches) == [1, 100]


def test_tasks_without_classes_are_cut_by_their_examples() -> None:
    batches = cut([call(0, 20_000), *(call(0, 1) for _ in range(100))])
    assert sorted(len(batch) for batch in batches) == [1, 100]


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=40))
def test_padding_at_most_doubles_the_work(sizes: list[tuple[int, int]]) -> None:
    calls = [call(*size) for size in sizes]
    batches = cut(calls)
    assert sorted(map(id, (one for batch in batches for one in batch))) == sorted(map(id, calls))
    for batch in batches:
        needed = sum(one.way * len(one.features) for one in batch)
        assert cells(batch) == pytest.approx(min(cells(batch), max(1 << 14, 2 * needed)))


def test_networks_that_are_gathered_together_are_bounded() -> None:
    network = TaskWeights(
        {"flat": torch.zeros(1, 1 << 20)},
        {},
        torch.tensor([1]),
        torch.zeros(1, 1, dtype=torch.long),
        torch.tensor([0]),
    )
    source = PackedWeights.of(network, torch.device("cpu"))

    def predict_call() -> PredictCall:
        return PredictCall(
            served=SERVED,
            flow=0,
            x=torch.zeros(0, 1),
            future=LOOP.create_future(),
            loop=LOOP,
            source=source,
            samples=0,
            arena=Arena(1 << 12),
            embedded=[torch.zeros(1, 1)],
        )

    assert [len(batch) for batch in cut([predict_call() for _ in range(40)])] == [16, 16, 8]
