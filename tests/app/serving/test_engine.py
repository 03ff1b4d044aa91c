"""The engine on real threads and real torch: batches change nothing but speed."""

from __future__ import annotations

import asyncio
import random
from time import perf_counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.serving.engine import Engine
from app.serving.engine_types import SupportSet
from models.inputs import ImageInput
from models.predictive import Field
from tests.app.serving.engines import Gate, assert_same, engine_of, never, regenerates, run
from tests.app.serving.learners import (
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
from tests.property import examples

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


@settings(max_examples=examples(25), deadline=None)
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
        requests = [asyncio.create_task(ask(index)) for index in order.sample(range(len(tasks)), len(tasks))]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *requests)

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
        requests = [
            asyncio.create_task(engine.predict(str(index), "noisy", queries(1), samples=2, regenerate=never))
            for index in range(60)
        ]
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *requests)

    run(engine, work)
    assert learner.predict_sizes == [60]
    assert sum(learner.embed_sizes) == 4 + 60
    assert len(learner.embed_sizes) < 10


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
