"""What searches have in common: a mean in parameter space, vectors drawn about it, a step towards the fitter.

Draws are keyed by (seed, generation), and a state is tensors, so that a resumed search is the one never interrupted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

_DECAYS = 0.9, 0.999
_EPSILON = 1e-8


class Strategy(ABC):
    """Fitness is to be made large."""

    mean: Float[Tensor, "size"]

    @abstractmethod
    def ask(self, generation: int) -> Float[Tensor, "population size"]:
        """The vectors of a generation; the same whenever asked."""

    @abstractmethod
    def tell(self, generation: int, fitness: Float[Tensor, "population"], rate: float) -> None:
        """How fit they were. `rate` in [0, 1] scales the step where the strategy has a learning rate."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """All that `restore` needs."""

    @abstractmethod
    def restore(self, state: dict[str, Tensor]) -> None: ...


class Adam:
    """Kingma, Ba 2015 (1412.6980), upwards along an estimated gradient."""

    def __init__(self, size: int, lr: float) -> None:
        self._lr = lr
        self.moments = torch.zeros(2, size)

    def step(self, gradient: Float[Tensor, "size"], count: int, rate: float) -> Float[Tensor, "size"]:
        """What to add; `count` is the number of steps before this one."""
        first, second = self.moments
        first.lerp_(gradient, 1 - _DECAYS[0])
        second.lerp_(gradient.square(), 1 - _DECAYS[1])
        unbiased = [m / (1 - d ** (count + 1)) for m, d in zip((first, second), _DECAYS, strict=True)]
        step: Tensor = rate * self._lr * unbiased[0] / (unbiased[1].sqrt() + _EPSILON)
        return step


def noise(seed: int, generation: int, count: int, size: int) -> Float[Tensor, "count size"]:
    """Standard normal numbers keyed by (seed, generation)."""
    generator = torch.Generator().manual_seed(hash((seed, generation)) % 2**63)
    return torch.randn(count, size, generator=generator)
