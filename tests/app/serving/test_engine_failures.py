"""Errors reach the request that caused them and no other, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
import torch

from app.serving.engine_types import Answers, SupportSet
from app.serving.errors import (
    EngineBusyError,
    EngineClosedError,
    LearnerFailedError,
    LearnerNotLoadedError,
    NotFiniteError,
)
from models.protocol import UnsupportedSupportError
from tests.app.serving.engines import Gate, assert_same, engine_of, never, run, running
from tests.app.serving.learners import (
    BAD_QUERY,
    BAD_SUPPORT,
    Noisy,
    expected,
    queries,
    support_set,
    weights_of,
)


def test_a_bad_item_fails_alone() -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner)
    support, x = support_set(4), queries(2)
    weights = weights_of(Noisy(), support)
    poison = x.copy()
    poison[1, 0] = BAD_QUERY
    refused = SupportSet(np.full_like(support.x, BAD_SUPPORT), support.y, support.classes, 0)

    async def work() -> list[Any]:
        first = await gate.closed_behind(engine)
        requests: list[Coroutine[Any, Any, Any]] = [
            engine.predict_once("noisy", weights, x, samples=2),
            engine.predict_once("noisy", weights, poison, samples=2),
            engine.predict_once("noisy", weights, queries(2, dim=3), samples=2),
            engine.adapt("noisy", support),
            engine.adapt("noisy", refused),
            engine.predict_once("noisy", weights, x, samples=2),
        ]
        tasks = [asyncio.create_task(one) for one in requests]
        await asyncio.sleep(0)
        gate.opened.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    good, poisoned, wrong_dim, adapted, unsupported, also_good = run(engine, work)
    for answers in (good, also_good):
        assert_same(answers.predictive, expected(Noisy(), support, x, 2))
    assert isinstance(poisoned, LearnerFailedError)
    assert "nobody can embed" in str(poisoned)
    assert isinstance(poisoned.__cause__, RuntimeError)
    assert isinstance(wrong_dim, LearnerFailedError)
    assert isinstance(unsupported, UnsupportedSupportError)
    torch.testing.assert_close(adapted.weights.rows["mean"], weights.rows["mean"])


def test_numbers_that_overflow_are_an_error_for_their_owner_only() -> None:
    engine, support = engine_of(), support_set(3)
    huge = SupportSet(np.full_like(support.x, 3e38), support.y, support.classes, 0)

    async def work() -> None:
        adapted, too_large = await asyncio.gather(
            engine.adapt("proto", support), engine.adapt("proto", huge), return_exceptions=True
        )
        assert isinstance(too_large, NotFiniteError)
        assert not isinstance(adapted, BaseException)
        x = np.full((1, 6), 3e38, np.float32)
        answers, too_far = await asyncio.gather(
            engine.predict_once("proto", adapted.weights, queries(1), samples=0),
            engine.predict_once("proto", adapted.weights, x, samples=0),
            return_exceptions=True,
        )
        assert isinstance(answers, Answers)
        assert isinstance(too_far, NotFiniteError)

    run(engine, work)


def test_cancelled_requests_are_skipped() -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner)
    weights = weights_of(Noisy(), support_set(3))

    async def work() -> None:
        engine.admit("k", "noisy", weights)
        first = await gate.closed_behind(engine)
        requests = [
            asyncio.create_task(engine.predict("k", "noisy", queries(5), samples=2, regenerate=never))
            for _ in range(10)
        ]
        await asyncio.sleep(0)
        for task in requests[1:]:
            task.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, requests[0])

    run(engine, work)
    assert sum(learner.embed_sizes) == len(support_set(2).x) + 5
    engine.evict("k")
    assert engine._arena.bytes_used == 0, "a cancelled request must not keep its task pinned"


@pytest.mark.parametrize("limit", [{"queue_limit": 4}, {"queue_bytes": 4 * 6 * 4}])
def test_a_full_queue_says_when_to_come_back(limit: dict[str, int]) -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner, **limit)
    weights = weights_of(Noisy(), support_set(3))

    async def work() -> None:
        engine.admit("k", "noisy", weights)
        first = await gate.closed_behind(engine)
        requests = [
            asyncio.create_task(engine.predict("k", "noisy", queries(1), samples=2, regenerate=never))
            for _ in range(10)
        ]
        await asyncio.sleep(0)
        gate.opened.set()
        outcomes = await asyncio.gather(first, *requests, return_exceptions=True)
        busy = [outcome for outcome in outcomes if isinstance(outcome, EngineBusyError)]
        assert 0 < len(busy) < 11
        assert all(1 <= one.retry_after < 60 for one in busy)
        assert all(
            isinstance(outcome, EngineBusyError) or not isinstance(outcome, BaseException)
            for outcome in outcomes
        )
        await engine.predict("k", "noisy", queries(1), samples=2, regenerate=never)

    run(engine, work)
    engine.evict("k")
    assert engine._arena.bytes_used == 0, "a refused request must not keep its task pinned"


def test_close_fails_those_who_wait() -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner)
    weights = weights_of(Noisy(), support_set(3))
    engine.start()

    async def work() -> None:
        engine.admit("k", "noisy", weights)
        first = await gate.closed_behind(engine)
        requests = [
            asyncio.create_task(engine.predict("k", "noisy", queries(50), samples=2, regenerate=never))
            for _ in range(9)
        ]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(engine.close))
        await asyncio.sleep(0.01)
        gate.opened.set()
        await closing
        outcomes = await asyncio.gather(first, *requests, return_exceptions=True)
        assert not isinstance(outcomes[0], BaseException)
        assert [type(outcome) for outcome in outcomes[1:]] == [EngineClosedError] * 9
        with pytest.raises(EngineClosedError):
            await engine.predict("k", "noisy", queries(1), samples=2, regenerate=never)

    asyncio.run(work())
    engine.evict("k")
    assert engine._arena.bytes_used == 0


def test_an_engine_that_is_not_started_says_so_and_starts_again_after_close() -> None:
    engine = engine_of()
    with pytest.raises(EngineClosedError):
        asyncio.run(engine.adapt("proto", support_set(2)))
    for _ in range(2):
        run(engine, lambda: engine.adapt("proto", support_set(2)))


def test_an_event_loop_that_has_gone_harms_nobody() -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner)

    async def leave() -> None:
        asyncio.create_task(engine.adapt("noisy", support_set(2)))  # noqa: RUF006 (to be abandoned)
        await asyncio.to_thread(gate.entered.wait, 20)

    with running(engine):
        asyncio.run(leave())
        gate.opened.set()
        asyncio.run(engine.adapt("noisy", support_set(2)))


def test_unknown_learner() -> None:
    engine = engine_of()

    async def work() -> None:
        with pytest.raises(LearnerNotLoadedError, match="nobody"):
            await engine.adapt("nobody", support_set(2))
        with pytest.raises(LearnerNotLoadedError, match="nobody"):
            await engine.predict("k", "nobody", queries(1), samples=1, regenerate=never)

    run(engine, work)
