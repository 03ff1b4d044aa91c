"""A stream made ready to serve: its networks answer, and its gate says whose network a query is for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from app.serving.served import Asked, folded
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Servable, TaskWeights
from models.stream_protocol import StreamLearner


class Gate(Servable):
    """Task inference as a learner like any other: its classes are the stream's tasks."""

    def __init__(self, learner: StreamLearner) -> None:
        self.traits = learner.traits
        self._learner = learner

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        return self._learner.embed(x)

    def predict(
        self,
        weights: TaskWeights,
        features: Float[Tensor, "tasks query *feature"],
        noise: Noise | None = None,
    ) -> Categorical:
        return self._learner.posterior(weights, features)


@dataclass(frozen=True)
class ServedStream:
    """Both take the same features: those that one has made may be given to the other."""

    networks: Asked
    gate: Asked

    @classmethod
    def of(cls, learner: StreamLearner, device: torch.device) -> ServedStream:
        served = folded(learner.to(device).eval().requires_grad_(False))
        return cls(Asked(served), Asked(Gate(served)))
