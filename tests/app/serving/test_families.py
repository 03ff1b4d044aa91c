"""Every learner of the contract, through the engine: batched with its neighbours it answers as by hand, alone."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from app.serving.engine import Engine
from app.serving.engine_types import SupportSet
from models.artifact import Artifact
from models.noise import Noise
from models.protocol import TaskWeights
from models.registry import METHODS
from models.testing.case import Case
from models.testing.tasks import Task, queries_of, support_of
from models.weights import tensors
from tests.models.cases import CASES, TOYS

SAMPLES = 8


@pytest.fixture(autouse=True, scope="module")
def _toys_are_registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, path in TOYS.items():
            patch.setitem(METHODS.paths, name, path)
        yield


def support_set(task: Task) -> SupportSet:
    y = None if task.support_y is None else task.support_y.numpy()
    return SupportSet(task.support_x.contiguous().numpy(), y, task.labels, task.seed)


async def never() -> TaskWeights:
    raise AssertionError("the weights should have been held")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_served_in_company_as_by_hand_alone(case: Case) -> None:
    learner = case.learner().requires_grad_(False)
    # A copy: `functional_call` swaps a module's parameters for a moment, so two threads must not share one.
    served = copy.deepcopy(learner)
    engine = Engine({"it": Artifact("it", case.config, "d" * 64, served, "", Path())})
    engine.start()

    async def ask(index: int, task: Task) -> None:
        x = task.query_x.numpy()
        adapted = await engine.adapt("it", support_set(task))
        once = await engine.predict_once("it", adapted.weights, x, samples=SAMPLES)
        engine.admit(str(index), "it", adapted.weights)
        kept = await engine.predict(str(index), "it", x, samples=SAMPLES, regenerate=never)
        with torch.no_grad():
            weights = learner.adapt(support_of(learner, [task]))
            noise = Noise(SAMPLES) if learner.traits.stochastic else None
            by_hand = learner.predict(weights, queries_of(learner, [task]), noise)
        assert_close(dict(tensors(adapted.weights)), dict(tensors(weights)), atol=1e-5, rtol=1e-4)
        for answers in (once, kept):
            for name, value in vars(by_hand).items():
                if isinstance(value, torch.Tensor):
                    value, served = value.nan_to_num(neginf=-99), getattr(answers.predictive, name)
                    assert_close(served.nan_to_num(neginf=-99), value, atol=1e-5, rtol=1e-4)

    async def work() -> None:
        await asyncio.gather(*(ask(index, task) for index, task in enumerate(case.tasks(8))))

    try:
        asyncio.run(work())
    finally:
        engine.close()
