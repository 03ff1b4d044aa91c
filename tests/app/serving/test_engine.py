"""The engine on real threads and real torch: batches change nothing but speed."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from app.serving.engine import Engine
from app.serving.errors import EngineBusy, EngineClosed, LearnerFailed, NotFinite, UnknownLearner
from app.serving.types import Answers, SupportSet
from models.inputs import ImageInput
from models.predictive import Field, Predictive
from models.protocol import TaskWeights, UnsupportedSupportError
from tests.app.serving.learners import (
    BAD_QUERY,
    BAD_SUPPORT,
    Noisy,
    Sum,
    Uncut,
    Whole,
    artifact,
    expected,
    queries,
    support_set,
    weights_of,
)


@contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def engine_of(learner: Noisy | None = None, **options: Any) -> Engine:
    artifacts = {
        "noisy": artifact("noisy", learner or Noisy()),
        "proto": artifact("proto"),
        "sum": artifact("sum", Sum()),
    }
    return Engine(artifacts, **options)


def run(engine: Engine, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with running(engine):
        return asyncio.run(work())


def regenerates(weights: TaskWeights) -> Callable[[], Awaitable[TaskWeights]]:
    async def regenerate() -> TaskWeights:
        return weights

    return regenerate


async def never() -> TaskWeights:
    raise AssertionError("the weights should have been held")


def values(predictive: Predictive) -> dict[str, Tensor]:
    return {name: value for name, value in vars(predictive).items() if isinstance(value, Tensor)}


def assert_same(one: Predictive, other: Predictive, tolerance: float = 1e-5) -> None:
    assert values(one).keys() == values(other).keys()
    for name, value in values(one).items():
        torch.testing.assert_close(
            value, values(other)[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


class Gate:
    """Holds the compute thread inside `embed` until opened, so that a queue builds up behind it."""

    def __init__(self, learner: Noisy) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        embed = learner.embed

        def gated(x: Tensor) -> Tensor:
            self.entered.set()
            assert self.opened.wait(20)
            return embed(x)

        learner.embed = gated  # type: ignore[method-assign]

    async def closed_behind(self, engine: Engine) -> asyncio.Task[Any]:
        """Returns once the compute thread is held by a request, which comes back to be awaited."""
        first = asyncio.create_task(engine.adapt("noisy", support_set(2)))
        while not self.entered.is_set():
            await asyncio.sleep(0.001)
        return first


RAGGED = st.lists(
    st.tuples(
        st.sampled_from(["noisy", "proto", "sum"]),
        st.integers(2, 40),  # way
        st.integers(1, 4),  # shot
        st.integers(1, 40),  # queries
        st.sampled_from([3, 6]),  # dimension
        st.sampled_from([2, 5]),  # samples
        st.sampled_from(["held", "missing", "once", "adapt"]),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=25, deadline=None)
@given(RAGGED, st.randoms(use_true_random=False))
def test_alone_is_batched(
    tasks: list[tuple[str, int, int, int, int, int, str]], order: random.Random
) -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner)
    by_hand = {"noisy": Noisy(), "proto": artifact("proto").learner, "sum": Sum()}

    async def ask(index: int) -> None:
        name, way, shot, count, dim, samples, how = tasks[index]
        support, x = support_set(way, shot, dim, seed=index), queries(count, dim, seed=index)
        weights = weights_of(by_hand[name], support)
        if how == "adapt":
            adapted = await engine.adapt(name, support)
            torch.testing.assert_close(
                {**adapted.weights.rows, **adapted.weights.task},
                {**weights.rows, **weights.task},
                rtol=0,
                atol=1e-5,
            )
            assert adapted.features.shape == (len(support.x), dim)
            return
        if how == "once":
            answers = await engine.predict_once(name, weights, x, samples=samples)
        else:
            if how == "held":
                engine.admit(str(index), name, weights)
            answers = await engine.predict(
                str(index),
                name,
                x,
                samples=samples,
                regenerate=never if how == "held" else regenerates(weights),
            )
        assert_same(answers.predictive, expected(by_hand[name], support, x, samples))

    async def work() -> None:
        first = await gate.closed_behind(engine)
        asked = [asyncio.create_task(ask(index)) for index in order.sample(range(len(tasks)), len(tasks))]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *asked)

    run(engine, work)


def test_images_through_the_folded_encoder_alone_and_batched() -> None:
    glyphs = artifact("glyphs", spec=ImageInput())
    _train_statistics(glyphs.learner)
    engine = Engine({"glyphs": glyphs})
    shape = (1, 28, 28)

    async def ask(index: int) -> None:
        support = support_set(2 + index % 7, 2, seed=index, shape=shape)
        x = queries(1 + index % 3, seed=index, shape=shape)
        adapted = await engine.adapt("glyphs", support)
        answers = await engine.predict_once("glyphs", adapted.weights, x, samples=0)
        assert_same(answers.predictive, expected(glyphs.learner, support, x, 0))

    async def work() -> None:
        await asyncio.gather(*(ask(index) for index in range(20)))

    run(engine, work)


def _train_statistics(learner: torch.nn.Module) -> None:
    """Statistics that folding has to respect: those of an untrained BatchNorm are 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for module in learner.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)


def test_waiting_queries_of_many_tasks_share_one_call() -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner)

    async def work() -> None:
        weights = [weights_of(Noisy(), support_set(5, seed=index)) for index in range(60)]
        for index, one in enumerate(weights):
            engine.admit(str(index), "noisy", one)
        first = await gate.closed_behind(engine)
        asked = [
            asyncio.create_task(engine.predict(str(index), "noisy", queries(1), samples=2, regenerate=never))
            for index in range(60)
        ]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *asked)

    run(engine, work)
    assert learner.predict_sizes == [60]
    assert sum(learner.embed_sizes) == 4 + 60
    assert len(learner.embed_sizes) < 10


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


def test_features_given_are_not_embedded_again() -> None:
    learner = Noisy()
    engine, support = engine_of(learner), support_set(3)

    async def work() -> None:
        adapted = await engine.adapt("noisy", support)
        bare = SupportSet(np.empty((0, 6), np.float32), support.y, support.classes, support.seed)
        again = await engine.adapt("noisy", bare, adapted.features)
        torch.testing.assert_close(dict(again.weights.rows), dict(adapted.weights.rows), rtol=0, atol=0)

    run(engine, work)
    assert learner.embed_sizes == [len(support.x)]


def test_timings_name_the_phases() -> None:
    engine = engine_of()

    async def work() -> None:
        began = perf_counter()
        adapted = await engine.adapt("proto", support_set(3, shot=500))
        assert sum(adapted.timing.values()) <= 1e3 * (perf_counter() - began)
        assert adapted.timing.keys() == {"queue", "embed", "adapt"}
        answers = await engine.predict_once("proto", adapted.weights, queries(2), samples=0)
        assert answers.timing.keys() == {"queue", "embed", "predict"}
        assert all(spent >= 0 for spent in (*adapted.timing.values(), *answers.timing.values()))

    run(engine, work)


def test_adapted_weights_own_their_memory() -> None:
    engine = engine_of()

    async def work() -> None:
        adapted = await asyncio.gather(
            *(engine.adapt("proto", support_set(5, seed=index)) for index in range(8))
        )
        for one in adapted:
            for value in (*one.weights.rows.values(), *one.weights.task.values()):
                assert value.untyped_storage().nbytes() == value.nbytes

    run(engine, work)


def test_one_dimension_beside_another_under_one_learner() -> None:
    engine = engine_of()

    async def ask(dim: int) -> None:
        support, x = support_set(4, dim=dim, seed=dim), queries(3, dim, seed=dim)
        weights = (await engine.adapt("proto", support)).weights
        engine.admit(f"dim {dim}", "proto", weights)
        answers = await engine.predict(f"dim {dim}", "proto", x, samples=0, regenerate=never)
        assert_same(answers.predictive, expected(artifact("proto").learner, support, x, 0))

    async def work() -> None:
        await asyncio.gather(*(ask(dim) for dim in (1, 2, 3, 64, 512, 8192)))

    run(engine, work)


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
        asked: list[Coroutine[Any, Any, Any]] = [
            engine.predict_once("noisy", weights, x, samples=2),
            engine.predict_once("noisy", weights, poison, samples=2),
            engine.predict_once("noisy", weights, queries(2, dim=3), samples=2),
            engine.adapt("noisy", support),
            engine.adapt("noisy", refused),
            engine.predict_once("noisy", weights, x, samples=2),
        ]
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0)
        gate.opened.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    good, poisoned, wrong_dim, adapted, unsupported, also_good = run(engine, work)
    for answers in (good, also_good):
        assert_same(answers.predictive, expected(Noisy(), support, x, 2))
    assert isinstance(poisoned, LearnerFailed)
    assert "nobody can embed" in str(poisoned)
    assert isinstance(poisoned.__cause__, RuntimeError)
    assert isinstance(wrong_dim, LearnerFailed)
    assert isinstance(unsupported, UnsupportedSupportError)
    torch.testing.assert_close(adapted.weights.rows["mean"], weights.rows["mean"])


def test_numbers_that_overflow_are_an_error_for_their_owner_only() -> None:
    engine, support = engine_of(), support_set(3)
    huge = SupportSet(np.full_like(support.x, 3e38), support.y, support.classes, 0)

    async def work() -> None:
        adapted, too_large = await asyncio.gather(
            engine.adapt("proto", support), engine.adapt("proto", huge), return_exceptions=True
        )
        assert isinstance(too_large, NotFinite)
        assert not isinstance(adapted, BaseException)
        x = np.full((1, 6), 3e38, np.float32)
        answers, too_far = await asyncio.gather(
            engine.predict_once("proto", adapted.weights, queries(1), samples=0),
            engine.predict_once("proto", adapted.weights, x, samples=0),
            return_exceptions=True,
        )
        assert isinstance(answers, Answers)
        assert isinstance(too_far, NotFinite)

    run(engine, work)


def test_one_regeneration_for_fifty_queries() -> None:
    engine, support, x = engine_of(), support_set(5), queries(1)
    calls = 0

    async def regenerate() -> TaskWeights:
        nonlocal calls
        calls += 1
        return (await engine.adapt("noisy", support)).weights

    async def work() -> None:
        asked = [engine.predict("k", "noisy", x, samples=2, regenerate=regenerate) for _ in range(50)]
        for answers in await asyncio.gather(*asked):
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
        asked = [engine.predict("k", "noisy", queries(1), samples=2, regenerate=broken) for _ in range(5)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
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
        asked = asyncio.create_task(engine.predict("k", "noisy", queries(1), samples=2, regenerate=slow))
        await asyncio.sleep(0.005)
        engine.evict("k")
        assert isinstance(await asked, Answers)
        assert not engine.holds("k")

    run(engine, work)


def test_a_key_evicted_while_a_query_waits_still_answers_it() -> None:
    learner, support = Noisy(), support_set(4)
    gate, engine = Gate(learner), engine_of(learner)

    async def work() -> None:
        engine.admit("k", "noisy", weights_of(Noisy(), support))
        first = await gate.closed_behind(engine)
        asked = asyncio.create_task(engine.predict("k", "noisy", queries(2), samples=2, regenerate=never))
        await asyncio.sleep(0)
        engine.evict("k")
        engine.admit("other", "noisy", weights_of(Noisy(), support_set(4, seed=9)))
        assert not engine.holds("k")
        gate.opened.set()
        assert_same((await asked).predictive, expected(Noisy(), support, queries(2), 2))
        await first

    run(engine, work)
    engine.evict("other")
    assert engine._arena.bytes_used == 0


def test_cancelled_requests_are_skipped() -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner)
    weights = weights_of(Noisy(), support_set(3))

    async def work() -> None:
        engine.admit("k", "noisy", weights)
        first = await gate.closed_behind(engine)
        asked = [
            asyncio.create_task(engine.predict("k", "noisy", queries(5), samples=2, regenerate=never))
            for _ in range(10)
        ]
        await asyncio.sleep(0)
        for task in asked[1:]:
            task.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, asked[0])

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
        asked = [
            asyncio.create_task(engine.predict("k", "noisy", queries(1), samples=2, regenerate=never))
            for _ in range(10)
        ]
        await asyncio.sleep(0)
        gate.opened.set()
        outcomes = await asyncio.gather(first, *asked, return_exceptions=True)
        busy = [outcome for outcome in outcomes if isinstance(outcome, EngineBusy)]
        assert 0 < len(busy) < 11
        assert all(1 <= one.retry_after < 60 for one in busy)
        assert all(
            isinstance(outcome, EngineBusy) or not isinstance(outcome, BaseException) for outcome in outcomes
        )
        await engine.predict("k", "noisy", queries(1), samples=2, regenerate=never)

    run(engine, work)
    engine.evict("k")
    assert engine._arena.bytes_used == 0, "a refused request must not keep its task pinned"


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


def test_close_fails_those_who_wait() -> None:
    learner = Noisy()
    gate, engine = Gate(learner), engine_of(learner)
    weights = weights_of(Noisy(), support_set(3))
    engine.start()

    async def work() -> None:
        engine.admit("k", "noisy", weights)
        first = await gate.closed_behind(engine)
        asked = [
            asyncio.create_task(engine.predict("k", "noisy", queries(50), samples=2, regenerate=never))
            for _ in range(9)
        ]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(engine.close))
        await asyncio.sleep(0.01)
        gate.opened.set()
        await closing
        outcomes = await asyncio.gather(first, *asked, return_exceptions=True)
        assert not isinstance(outcomes[0], BaseException)
        assert [type(outcome) for outcome in outcomes[1:]] == [EngineClosed] * 9
        with pytest.raises(EngineClosed):
            await engine.predict("k", "noisy", queries(1), samples=2, regenerate=never)

    asyncio.run(work())
    engine.evict("k")
    assert engine._arena.bytes_used == 0


def test_an_engine_that_is_not_started_says_so_and_starts_again_after_close() -> None:
    engine = engine_of()
    with pytest.raises(EngineClosed):
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


def test_answers_that_cannot_be_cut_from_a_batch_are_made_one_by_one() -> None:
    engine = Engine({"uncut": artifact("uncut", Uncut())})

    async def ask(index: int) -> None:
        support = support_set(2, seed=index)
        adapted = await engine.adapt("uncut", support)
        answers = await engine.predict_once("uncut", adapted.weights, queries(1), samples=0)
        assert isinstance(answers.predictive, Whole)
        torch.testing.assert_close(answers.predictive.centre, adapted.weights.task["sum"], rtol=0, atol=1e-5)

    async def work() -> None:
        await asyncio.gather(*(ask(index) for index in range(20)))

    run(engine, work)


def test_nothing_to_adapt_to_and_nothing_to_ask_are_the_learners_affair() -> None:
    engine = engine_of()

    async def work() -> None:
        nothing = SupportSet(np.empty((0, 6), np.float32), np.empty(0, np.int64), (), 0)
        adapted, other = await asyncio.gather(
            engine.adapt("sum", nothing), engine.adapt("sum", support_set(2))
        )
        assert adapted.weights.task["sum"].tolist() == [[0.0] * 6]
        answers = await engine.predict_once("sum", other.weights, queries(0), samples=0)
        assert isinstance(answers.predictive, Field)
        assert answers.predictive.values.shape == (1, 0, 6)

    run(engine, work)


def test_unknown_learner() -> None:
    engine = engine_of()

    async def work() -> None:
        with pytest.raises(UnknownLearner, match="nobody"):
            await engine.adapt("nobody", support_set(2))
        with pytest.raises(UnknownLearner, match="nobody"):
            await engine.predict("k", "nobody", queries(1), samples=1, regenerate=never)

    run(engine, work)


def test_warm_runs_every_learner() -> None:
    learner = Noisy()
    engine = engine_of(learner)
    engine.warm()
    assert learner.predict_sizes == [1, 2]


def test_read_only_and_strided_inputs_are_taken() -> None:
    engine, support = engine_of(), support_set(3)
    x = np.repeat(queries(4), 2, axis=0)[::2]
    x.setflags(write=False)

    async def work() -> None:
        adapted = await engine.adapt("proto", support)
        answers = await engine.predict_once("proto", adapted.weights, x, samples=0)
        assert_same(answers.predictive, expected(artifact("proto").learner, support, x.copy(), 0))

    run(engine, work)
