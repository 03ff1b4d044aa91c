"""Loaded artifacts ready to serve: on the device, BatchNorm folded, warm."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from models.artifact import Artifact
from models.encoder_protocol import Encoder
from models.inputs import InputSpec
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import MetaLearner, Servable, Support, TaskWeights
from models.stream_protocol import StreamLearner

Learner = TypeVar("Learner", MetaLearner, StreamLearner)

_CHUNK = 16
"""Examples per call of an encoder on a CPU: the activations of more no longer fit its caches."""
_FREE_LENGTH = 64
"""Length of the vectors that warm a learner of vectors of any length."""


def target_length(artifact: Artifact) -> int | None:
    """Return the one length of target vectors that a learner of values takes, or None if it takes any.

    By convention it is the hyperparameter `target`.
    """
    length = artifact.config.hparams.get("target")
    return length if isinstance(length, int) else None


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that answers queries with weights, as the compute thread runs it. Compared by identity."""

    learner: Servable

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        if x.shape[0] <= _CHUNK or x.device.type != "cpu":
            return self.learner.embed(x)
        return torch.cat([self.learner.embed(part) for part in x.split(_CHUNK)])


@dataclass(frozen=True, eq=False)
class ServedLearner(ServedModel):
    """A learner that also turns support sets into weights."""

    learner: MetaLearner
    encoder: Encoder
    """The encoder before it was folded, which knows what it was trained on."""
    input: InputSpec
    target: int = 1
    """Length of the target vectors that warm a learner of values."""

    @classmethod
    def of(cls, artifact: Artifact, device: torch.device) -> ServedLearner:
        """Prepare the learner of an artifact, changing nothing of the artifact's own but the device."""
        learner = artifact.learner.to(device).eval()
        return cls(folded(learner), learner.encoder, artifact.config.input, target_length(artifact) or 1)

    def warm(self, device: torch.device) -> None:
        """Answer made-up requests: the first call of each kind is many times slower than the next."""
        shape = self.input.shape or (_FREE_LENGTH,)
        traits = self.learner.traits
        size = traits.ways.nearest(2) if traits.kind == "classification" else traits.shots.nearest(2)
        noise = Noise(8) if traits.stochastic else None
        for tasks in (1, 2):
            features = self.learner.embed(torch.rand(tasks * size, *shape, device=device))
            features = features.view(tasks, size, *features.shape[1:])
            targets = torch.arange(size, device=device).expand(tasks, size)
            if traits.kind == "regression":
                targets = torch.zeros(tasks, size, self.target, device=device)
            self.learner.predict(self.learner.adapt(Support.of(features, targets)), features, noise)


def folded(learner: Learner) -> Learner:
    """Return a shallow copy whose encoder runs without BatchNorm, if the encoder offers that."""
    if not isinstance(encoder := learner.encoder, Encoder) or (fast := encoder.fold()) is encoder:
        return learner
    served = copy.copy(learner)
    served._modules = {**learner._modules, "encoder": fast}
    return served


class GateModel(Servable):
    """Task inference as a model like any other: its classes are the stream's tasks."""

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
    """The two models of a stream. Both take the same features, so one can use those computed by the other."""

    networks: ServedModel
    gate: ServedModel

    @classmethod
    def of(cls, learner: StreamLearner, device: torch.device) -> ServedStream:
        served = folded(learner.to(device).eval().requires_grad_(False))
        return cls(ServedModel(served), ServedModel(GateModel(served)))
