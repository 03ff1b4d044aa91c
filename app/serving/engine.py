"""The door of serving: support sets become weights, queries become answers, on one compute thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float32

from app.serving.errors import UnknownLearner
from app.serving.types import Adapted, Answers, Servant, SupportSet
from models.noise import Noise, label_key
from models.protocol import Support, TaskWeights

Regenerate = Callable[[], Awaitable[TaskWeights]]


class Engine:
    """First cut: the interface, answered one by one."""

    def __init__(
        self,
        learners: Mapping[str, Servant],
        *,
        device: str = "cpu",
        arena_bytes: int = 256 << 20,
        queue_limit: int = 2048,
    ) -> None:
        self._learners = learners
        self._held: dict[str, TaskWeights] = {}

    def start(self) -> None: ...

    def warm(self) -> None: ...

    def close(self) -> None: ...

    async def adapt(
        self, learner: str, support: SupportSet, features: Float32[np.ndarray, "n *feature"] | None = None
    ) -> Adapted:
        servant = self._servant(learner)

        def run() -> Adapted:
            with torch.no_grad():
                x = servant.learner.embed(torch.from_numpy(support.x)) if features is None else torch.from_numpy(features)
                keys = torch.tensor([[label_key(label) for label in support.classes]])
                weights = servant.learner.adapt(
                    Support.of(
                        x[None],
                        torch.from_numpy(support.y)[None],
                        n_way=torch.tensor([len(support.classes)]),
                        class_key=keys,
                        seed=torch.tensor([support.seed]),
                    )
                )
                return Adapted(weights.select(0), x.numpy(), {"queue": 0.0, "embed": 0.0, "adapt": 0.0})

        return await asyncio.to_thread(run)

    async def predict(
        self,
        key: str,
        learner: str,
        x: Float32[np.ndarray, "q *input"],
        *,
        samples: int,
        regenerate: Regenerate,
    ) -> Answers:
        if key not in self._held:
            self._held[key] = await regenerate()
        return await self.predict_once(learner, self._held[key], x, samples=samples)

    async def predict_once(
        self, learner: str, weights: TaskWeights, x: Float32[np.ndarray, "q *input"], *, samples: int
    ) -> Answers:
        servant = self._servant(learner)

        def run() -> Answers:
            with torch.no_grad():
                features = servant.learner.embed(torch.from_numpy(x))[None]
                noise = Noise(samples) if servant.learner.traits.stochastic else None
                predictive = servant.learner.predict(weights, features, noise)
                return Answers(predictive, {"queue": 0.0, "embed": 0.0, "predict": 0.0})

        return await asyncio.to_thread(run)

    def admit(self, key: str, learner: str, weights: TaskWeights) -> None:
        self._held[key] = weights

    def evict(self, key: str) -> None:
        self._held.pop(key, None)

    def holds(self, key: str) -> bool:
        return key in self._held

    def _servant(self, name: str) -> Servant:
        if name not in self._learners:
            raise UnknownLearner(f"no learner named {name!r} is loaded")
        return self._learners[name]
