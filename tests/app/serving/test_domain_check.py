"""The encoder's check of a support set becomes a part of its weights, and of every answer of theirs."""

from __future__ import annotations

import asyncio

import pytest
import torch
from torch import Tensor

from app.serving.engine import Engine
from models.encoders.identity import Identity, IdentityConfig
from models.noise import label_key
from models.weights import Header, pack, unpack
from tests.app.serving.engines import never, run
from tests.app.serving.learners import Noisy, artifact, queries, support_set


class Known(Identity):
    """A check that counts: the way of the task over its examples."""

    def familiarity(self, features: Tensor, targets: Tensor | None, mask: Tensor) -> Tensor:
        assert targets is not None
        assert features.shape[:2] == targets.shape == mask.shape
        return (targets.masked_fill(~mask, 0).amax(1) + 1) / mask.sum(1)


@pytest.fixture
def learner() -> Noisy:
    made = Noisy()
    made.encoder = Known(IdentityConfig())
    return made


@pytest.fixture
def engine(learner: Noisy) -> Engine:
    return Engine({"noisy": artifact("noisy", learner), "plain": artifact("plain", Noisy())})


def test_tasks_of_a_batch_have_each_their_own(engine: Engine) -> None:
    async def work() -> None:
        tasks = [support_set(way, shot, seed=way) for way, shot in ((2, 1), (5, 2), (3, 4))]
        found = await asyncio.gather(*(engine.adapt("noisy", task) for task in tasks))
        assert [one.fit for one in found] == pytest.approx([1.0, 0.5, 0.25])
        for index, one in enumerate(found):
            engine.admit(str(index), "noisy", one.weights)
        asked = (
            engine.predict(str(index), "noisy", queries(index + 1), samples=0, regenerate=never)
            for index in range(len(tasks))
        )
        assert [one.fit for one in await asyncio.gather(*asked)] == pytest.approx([1.0, 0.5, 0.25])
        once = await engine.predict_once("noisy", found[1].weights, queries(2), samples=4)
        assert once.fit == pytest.approx(0.5)

    run(engine, work)


def test_it_travels_with_the_weights(engine: Engine) -> None:
    async def work() -> None:
        task = support_set(3, 2)
        weights = (await engine.adapt("noisy", task)).weights
        assert weights.class_key[0].tolist() == [label_key(label) for label in task.classes]
        again, _ = unpack(pack(weights, Header("d", task.classes, task.seed)))
        assert again.task["fit"].equal(torch.tensor([0.5]))

    run(engine, work)


def test_an_encoder_without_a_check_adds_nothing(engine: Engine) -> None:
    async def work() -> None:
        adapted = await engine.adapt("plain", support_set(2))
        assert (adapted.fit, "fit" in adapted.weights.task) == (None, False)
        answers = await engine.predict_once("plain", adapted.weights, queries(1), samples=0)
        assert answers.fit is None

    run(engine, work)


def test_a_check_reads_all_examples_so_nothing_is_added_to_such_weights(learner: Noisy) -> None:
    learner.traits = type(learner.traits)(incremental=True)
    engine = Engine({"noisy": artifact("noisy", learner)}, arena_bytes=1 << 20)

    async def work() -> None:
        adapted = await engine.adapt("noisy", support_set(2))
        engine.admit("base", "noisy", adapted.weights)
        assert await engine.extend("base", "noisy", support_set(2, seed=1)) is None
        engine.evict("base")
        assert engine.load_now().arena_bytes == 0, "nothing is left pinned"

    run(engine, work)
