"""Lanes take turns, long jobs go in slices, and a round has a limit."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import torch

from app.serving.calls import AdaptJob, Job
from app.serving.queue import QUANTUM, ROUND, Lanes
from app.serving.served_models import Served
from tests.app.serving.learners import Noisy, artifact

SERVED = Served.of(artifact("noisy", Noisy()), torch.device("cpu"))


@pytest.fixture
def loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def job(loop: asyncio.AbstractEventLoop, lane: object, size: int) -> Job:
    return AdaptJob(
        served=SERVED,
        lane=lane,
        x=torch.zeros(size, 2),
        future=loop.create_future(),
        loop=loop,
        y=torch.zeros(size).long().numpy(),
        class_keys=[1],
        seed=0,
    )


def taken(lanes: Lanes) -> Counter[object]:
    counter: Counter[object] = Counter()
    for part in lanes.take()[0]:
        counter[part.job.lane] += part.stop - part.start
    return counter


def test_a_single_query_waits_one_round_behind_a_flood(loop: asyncio.AbstractEventLoop) -> None:
    lanes = Lanes()
    for _ in range(1000):
        lanes.push(job(loop, "flood", 1))
    lanes.push(job(loop, "huge", 20_000))
    lanes.push(job(loop, "single", 1))
    first = taken(lanes)
    assert first["single"] == 1
    assert first["flood"] > 1
    assert sum(first.values()) == ROUND


def test_a_lone_long_job_fills_the_round_and_ends(loop: asyncio.AbstractEventLoop) -> None:
    lanes, long = Lanes(), job(loop, "a", 3 * ROUND + 5)
    lanes.push(long)
    rounds = []
    while lanes:
        slices, complete, _ = lanes.take()
        rounds.append((slices[0].start, slices[-1].stop, complete))
    assert [(start, stop) for start, stop, _ in rounds] == [
        (0, ROUND),
        (ROUND, 2 * ROUND),
        (2 * ROUND, 3 * ROUND),
        (3 * ROUND, 3 * ROUND + 5),
    ]
    assert [complete for *_, complete in rounds] == [[], [], [], [long]]


def test_slices_of_equal_lanes_are_equal(loop: asyncio.AbstractEventLoop) -> None:
    lanes = Lanes()
    for lane in "abcd":
        lanes.push(job(loop, lane, 1000))
    assert taken(lanes) == dict.fromkeys("abcd", QUANTUM)


def test_the_unwanted_are_dropped_unseen(loop: asyncio.AbstractEventLoop) -> None:
    lanes, gone, wanted = Lanes(), job(loop, "a", 50), job(loop, "a", 2)
    lanes.push(gone)
    lanes.push(wanted)
    gone.future.cancel()
    slices, complete, dropped = lanes.take()
    assert dropped == [gone]
    assert complete == [wanted]
    assert [part.job for part in slices] == [wanted]


def test_jobs_embedded_before_are_complete_at_once_and_still_count(loop: asyncio.AbstractEventLoop) -> None:
    lanes = Lanes()
    for lane in range(ROUND + 1):
        embedded = job(loop, lane, 0)
        embedded.embedded.append(torch.zeros(5, 2))
        lanes.push(embedded)
    slices, complete, _ = lanes.take()
    assert slices == []
    assert len(complete) == ROUND
    assert lanes
    assert len(lanes.take()[1]) == 1
    assert not lanes


def test_no_examples_are_embedded_too(loop: asyncio.AbstractEventLoop) -> None:
    lanes, empty = Lanes(), job(loop, 0, 0)
    lanes.push(empty)
    slices, complete, _ = lanes.take()
    assert [(part.start, part.stop) for part in slices] == [(0, 0)]
    assert complete == [empty]
