"""Flows take turns, long calls go in slices, and a round has a limit."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import torch

from app.serving.calls import AdaptCall, Call
from app.serving.fair_queue import QUANTUM, ROUND, FairQueue
from app.serving.served_models import ServedLearner
from tests.app.serving.learners import Noisy, artifact

SERVED = ServedLearner.of(artifact("noisy", Noisy()), torch.device("cpu"))


@pytest.fixture
def loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def call(loop: asyncio.AbstractEventLoop, flow: object, size: int) -> Call:
    return AdaptCall(
        served=SERVED,
        flow=flow,
        x=torch.zeros(size, 2),
        future=loop.create_future(),
        loop=loop,
        y=torch.zeros(size).long().numpy(),
        class_keys=[1],
        seed=0,
    )


def taken(queue: FairQueue) -> Counter[object]:
    counter: Counter[object] = Counter()
    for part in queue.take()[0]:
        counter[part.call.flow] += part.stop - part.start
    return counter


def test_a_single_query_waits_one_round_behind_a_flood(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue()
    for _ in range(1000):
        queue.push(call(loop, "flood", 1))
    queue.push(call(loop, "huge", 20_000))
    queue.push(call(loop, "single", 1))
    first = taken(queue)
    assert first["single"] == 1
    assert first["flood"] > 1
    assert sum(first.values()) == ROUND


def test_a_lone_long_job_fills_the_round_and_ends(loop: asyncio.AbstractEventLoop) -> None:
    queue, long = FairQueue(), call(loop, "a", 3 * ROUND + 5)
    queue.push(long)
    rounds = []
    while queue:
        slices, complete, _ = queue.take()
        rounds.append((slices[0].start, slices[-1].stop, complete))
    assert [(start, stop) for start, stop, _ in rounds] == [
        (0, ROUND),
        (ROUND, 2 * ROUND),
        (2 * ROUND, 3 * ROUND),
        (3 * ROUND, 3 * ROUND + 5),
    ]
    assert [complete for *_, complete in rounds] == [[], [], [], [long]]


def test_slices_of_equal_lanes_are_equal(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue()
    for flow in "abcd":
        queue.push(call(loop, flow, 1000))
    assert taken(queue) == dict.fromkeys("abcd", QUANTUM)


def test_the_unwanted_are_dropped_unseen(loop: asyncio.AbstractEventLoop) -> None:
    queue, gone, waiting = FairQueue(), call(loop, "a", 50), call(loop, "a", 2)
    queue.push(gone)
    queue.push(waiting)
    gone.future.cancel()
    slices, complete, dropped = queue.take()
    assert dropped == [gone]
    assert complete == [waiting]
    assert [part.call for part in slices] == [waiting]


def test_jobs_embedded_before_are_complete_at_once_and_still_count(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue()
    for flow in range(ROUND + 1):
        embedded = call(loop, flow, 0)
        embedded.embedded.append(torch.zeros(5, 2))
        queue.push(embedded)
    slices, complete, _ = queue.take()
    assert slices == []
    assert len(complete) == ROUND
    assert queue
    assert len(queue.take()[1]) == 1
    assert not queue


def test_no_examples_are_embedded_too(loop: asyncio.AbstractEventLoop) -> None:
    queue, empty = FairQueue(), call(loop, 0, 0)
    queue.push(empty)
    slices, complete, _ = queue.take()
    assert [(part.start, part.stop) for part in slices] == [(0, 0)]
    assert complete == [empty]
