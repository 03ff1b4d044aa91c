"""Loaded artifacts made ready to serve: on the device, BatchNorm folded, warm."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.artifact import Artifact
from models.inputs import InputSpec
from models.noise import Noise
from models.protocol import MetaLearner, Support

_CHUNK = 16
"""Examples per call of an encoder on a CPU: the activations of more no longer fit its caches."""
_FREE_LENGTH = 64
"""Length of the vectors that warm a learner which takes any."""


@dataclass(frozen=True, eq=False)
class Served:
    """A learner as the compute thread runs it. Compared by identity."""

    name: str
    learner: MetaLearner
    input: InputSpec

    @classmethod
    def of(cls, artifact: Artifact, device: torch.device) -> Served:
        """Leaves the artifact's own learner as it is, but for the device."""
        learner = artifact.learner.to(device).eval()
        return cls(artifact.name, _folded(learner), artifact.config.input)

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        if x.shape[0] <= _CHUNK or x.device.type != "cpu":
            return self.learner.embed(x)
        return torch.cat([self.learner.embed(part) for part in x.split(_CHUNK)])

    def warm(self, device: torch.device) -> None:
        """Answers made-up requests: the first call of each kind is many times slower than the next."""
        shape = _shape(self.input)
        way = self.learner.traits.ways.nearest(2)
        noise = Noise(8) if self.learner.traits.stochastic else None
        for tasks in (1, 2):
            features = self.learner.embed(torch.rand(tasks * way, *shape, device=device))
            features = features.view(tasks, way, *features.shape[1:])
            targets = torch.arange(way, device=device).expand(tasks, way)
            self.learner.predict(self.learner.adapt(Support.of(features, targets)), features, noise)


def _folded(learner: MetaLearner) -> MetaLearner:
    """A shallow copy whose encoder runs without BatchNorm, where the encoder offers that."""
    fold = getattr(getattr(learner, "encoder", None), "fold", None)
    if fold is None:
        return learner
    served = copy.copy(learner)
    served._modules = {**learner._modules, "encoder": fold()}
    return served


def _shape(spec: InputSpec) -> tuple[int, ...]:
    if spec.kind == "image":
        return spec.channels, spec.size, spec.size
    return (spec.dim or _FREE_LENGTH,)
