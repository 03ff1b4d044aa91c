"""REINFORCE (Williams 1992): a policy over parameters, moved towards rewarded ones.

An action is a whole parameter vector, drawn from π = N(μ, σ²I); its reward R is the fitness, whose gradient is not
needed. With the score function and a baseline b_i, the mean reward of the other actions of the generation,

    ∇_μ E[R] ≈ 1/n Σ_i (R_i − b_i) ε_i / σ,    ∇_{log σ} E[R] ≈ 1/n Σ_i (R_i − b_i) (|ε_i|² − d),    θ_i = μ + σ ε_i.

Rewards are divided by their spread; Adam takes the steps. σ stays within a factor of ten of its start.
(Evolution strategies differ by mirrored draws, ranks, and a σ that stays.)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from models.training.strategy import Ascent, Strategy, noise

_SIGMA_RATE = 0.1
"""Learning rate of log σ: few rewards say little about it."""
_SIGMA_RANGE = math.log(10)
_LEAST_SPREAD = 1e-8


class Reinforce(Strategy):
    """A Gaussian policy whose mean and width follow the policy gradient."""

    def __init__(
        self, start: Float[Tensor, "size"], sigma: float, population: int, lr: float, seed: int
    ) -> None:
        self.mean = start.clone()
        self._first_log_sigma = math.log(sigma)
        self._log_sigma = torch.full((1,), self._first_log_sigma)
        self._population = population
        self._seed = seed
        self._ascent = Ascent(len(start), lr)
        self._sigma_ascent = Ascent(1, _SIGMA_RATE)

    @property
    def sigma(self) -> float:
        return float(self._log_sigma.exp())

    def ask(self, generation: int) -> Float[Tensor, "population size"]:
        return self.mean + self.sigma * self._noise(generation)

    def tell(self, generation: int, fitness: Float[Tensor, "population"], rate: float) -> None:
        drawn = self._noise(generation)
        advantage = leave_one_out(fitness)
        spread = advantage.std()
        if spread < _LEAST_SPREAD:
            return  # All alike: no direction is better than another.
        weight = advantage / spread / len(advantage)
        gradient = weight @ drawn / self.sigma
        wider = weight @ (drawn.square().mean(1) - 1)
        self.mean = self._ascent.step(self.mean, gradient, generation, rate)
        moved = self._sigma_ascent.step(self._log_sigma, wider[None], generation, rate)
        low, high = self._first_log_sigma - _SIGMA_RANGE, self._first_log_sigma + _SIGMA_RANGE
        self._log_sigma = moved.clamp(low, high)

    def state(self) -> dict[str, Tensor]:
        return {
            "mean": self.mean,
            "log_sigma": self._log_sigma,
            "moments": self._ascent.moments,
            "sigma_moments": self._sigma_ascent.moments,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        self.mean, self._log_sigma = state["mean"], state["log_sigma"]
        self._ascent.moments, self._sigma_ascent.moments = state["moments"], state["sigma_moments"]

    def _noise(self, generation: int) -> Float[Tensor, "population size"]:
        return noise(self._seed, generation, self._population, len(self.mean))


def leave_one_out(reward: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Return each reward less the mean of the others: a baseline that leaves the gradient unbiased."""
    return (reward - reward.mean()) * len(reward) / (len(reward) - 1)
