"""The protocol of searches: a mean in parameter space, vectors drawn about it, a step towards the fitter ones.

Draws are keyed by (seed, generation), and a state is tensors, so that a resumed search is the one never interrupted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor


class Strategy(ABC):
    """Base of every search; it makes fitness large."""

    mean: Float[Tensor, "size"]

    @abstractmethod
    def ask(self, generation: int) -> Float[Tensor, "population size"]:
        """Return the vectors of a generation, the same at every call."""

    @abstractmethod
    def tell(self, generation: int, fitness: Float[Tensor, "population"], rate: float) -> None:
        """Take a step by their fitness. `rate` in [0, 1] scales it if the strategy has a learning rate."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `restore` needs."""

    @abstractmethod
    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a state."""


class Ascent:
    """Adam (Kingma, Ba 2015, 1412.6980) upwards along estimated gradients; its moments can be stored."""

    def __init__(self, size: int, lr: float) -> None:
        self._lr = lr
        self.moments = torch.zeros(2, size)

    def step(
        self, vector: Float[Tensor, "size"], gradient: Float[Tensor, "size"], count: int, rate: float
    ) -> Float[Tensor, "size"]:
        """Return the vector moved; `count` is the number of steps before this one, `rate` scales the step."""
        moved = vector.clone()
        moved.grad = gradient
        optimiser = torch.optim.Adam([moved], lr=rate * self._lr, maximize=True)
        mean, square = self.moments
        optimiser.state[moved] = {"step": torch.tensor(float(count)), "exp_avg": mean, "exp_avg_sq": square}
        optimiser.step()
        return moved.detach()


def noise(seed: int, generation: int, count: int, size: int) -> Float[Tensor, "count size"]:
    """Return standard normal numbers keyed by (seed, generation)."""
    generator = torch.Generator().manual_seed(hash((seed, generation)) % 2**63)
    return torch.randn(count, size, generator=generator)
