"""Engines for tests: started, held still while a queue builds up, compared."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from app.serving.engine import Engine
from models.predictive import Predictive
from models.protocol import TaskWeights
from tests.app.serving.learners import (
    Noisy,
    Sum,
    artifact,
    support_set,
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
        while not self.entered.is_set():  # noqa: ASYNC110 (set by another thread)
            await asyncio.sleep(0.001)
        return first
