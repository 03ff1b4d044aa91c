"""Weights by key: kept, evicted, and regenerated once for all who wait."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from app.serving.engine_types import Answers
from models.predictive import Predictive
from models.protocol import TaskWeights
from tests.app.serving.engines import Gate, assert_same, engine_of, never, regenerates, run
from tests.app.serving.learners import (
    Noisy,
    expected,
    queries,
    support_set,
    weights_of,
)


def test_cached_is_fresh_is_regenerated() -> None:
    engine, support, x = engine_of(), support_set(7, 3, seed=4), queries(9, seed=4)

    async def ask(key: str, regenerate: Callable[[], Awaitable[TaskWeights]]) -> Predictive:
        answers = await engine.predict(key, "noisy", x, samples=8, regenerate=regenerate)
        return answers.predictive

    async def work() -> None:
        adapted = await engine.adapt("noisy", support)
        from_features = await engine.adapt("noisy", support, adapted.features)
        fresh = await engine.predict_once("noisy", adapted.weights, x, samples=8)
        engine.admit("k", "noisy", adapted.weights)
        cached = await ask("k", never)
        engine.evict("k")
        again = await ask("k", regenerates(from_features.weights))
        for other in (cached, again):
            assert_same(fresh.predictive, other, 0.0)

    run(engine, work)


def test_one_regeneration_for_fifty_queries() -> None:
    engine, support, x = engine_of(), support_set(5), queries(1)
    calls = 0

    async def regenerate() -> TaskWeights:
        nonlocal calls
        calls += 1
        return (await engine.adapt("noisy", support)).weights

    async def work() -> None:
        requests = [engine.predict("k", "noisy", x, samples=2, regenerate=regenerate) for _ in range(50)]
        for answers in await asyncio.gather(*requests):
            assert_same(answers.predictive, expected(Noisy(), support, x, 2))
        assert engine.holds("k")

    run(engine, work)
    assert calls == 1


def test_a_failed_regeneration_fails_those_who_wait_and_is_tried_again() -> None:
    engine, weights = engine_of(), weights_of(Noisy(), support_set(3))

    async def broken() -> TaskWeights:
        await asyncio.sleep(0.01)
        raise OSError("the disk is gone")

    async def work() -> None:
        requests = [engine.predict("k", "noisy", queries(1), samples=2, regenerate=broken) for _ in range(5)]
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [OSError] * 5
        await engine.predict("k", "noisy", queries(1), samples=2, regenerate=regenerates(weights))

    run(engine, work)


def test_who_started_a_regeneration_may_leave() -> None:
    engine, weights = engine_of(), weights_of(Noisy(), support_set(3))

    async def slow() -> TaskWeights:
        await asyncio.sleep(0.02)
        return weights

    async def work() -> None:
        first, second = (
            asyncio.create_task(engine.predict("k", "noisy", queries(1), samples=2, regenerate=slow))
            for _ in range(2)
        )
        await asyncio.sleep(0.005)
        first.cancel()
        assert isinstance(await second, Answers)
        assert first.cancelled()

    run(engine, work)


def test_a_key_evicted_while_it_is_regenerated_is_not_kept() -> None:
    engine, weights = engine_of(), weights_of(Noisy(), support_set(3))

    async def slow() -> TaskWeights:
        await asyncio.sleep(0.02)
        return weights

    async def work() -> None:
        request = asyncio.create_task(engine.predict("k", "noisy", queries(1), samples=2, regenerate=slow))
        await asyncio.sleep(0.005)
        engine.evict("k")
        assert isinstance(await request, Answers)
        assert not engine.holds("k")

    run(engine, work)


def test_a_key_evicted_while_a_query_waits_still_answers_it() -> None:
    learner, support = Noisy(), support_set(4)
    gate, engine = Gate(learner), engine_of(learner)

    async def work() -> None:
        engine.admit("k", "noisy", weights_of(Noisy(), support))
        first = await gate.closed_behind(engine)
        request = asyncio.create_task(engine.predict("k", "noisy", queries(2), samples=2, regenerate=never))
        await asyncio.sleep(0)
        engine.evict("k")
        engine.admit("other", "noisy", weights_of(Noisy(), support_set(4, seed=9)))
        assert not engine.holds("k")
        gate.opened.set()
        assert_same((await request).predictive, expected(Noisy(), support, queries(2), 2))
        await first

    run(engine, work)
    engine.evict("other")
    assert engine._arena.bytes_used == 0


def test_a_task_larger_than_the_arena_is_served_without_being_kept() -> None:
    engine, support, x = engine_of(arena_bytes=1 << 12), support_set(100), queries(3)
    calls = 0

    async def regenerate() -> TaskWeights:
        nonlocal calls
        calls += 1
        return weights_of(Noisy(), support)

    async def work() -> None:
        for _ in range(2):
            answers = await engine.predict("k", "noisy", x, samples=2, regenerate=regenerate)
            assert_same(answers.predictive, expected(Noisy(), support, x, 2))
        assert not engine.holds("k")

    run(engine, work)
    assert calls == 2


def test_tasks_beyond_the_arena_are_regenerated() -> None:
    engine = engine_of(arena_bytes=1 << 14)
    supports = [support_set(5, seed=index) for index in range(100)]

    async def ask(index: int) -> None:
        weights = weights_of(Noisy(), supports[index])
        answers = await engine.predict(
            str(index), "noisy", queries(1, seed=index), samples=2, regenerate=regenerates(weights)
        )
        assert_same(answers.predictive, expected(Noisy(), supports[index], queries(1, seed=index), 2))

    async def work() -> None:
        order = random.Random(0)
        await asyncio.gather(*(ask(order.randrange(100)) for _ in range(400)))
        held = sum(engine.holds(str(index)) for index in range(100))
        assert 0 < held < 100

    run(engine, work)
