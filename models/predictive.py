"""What a prediction is: a small family of distributions. Entropies are in nats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Predictive(ABC):
    """Base of every answer; `at` cuts a batch into its tasks."""

    @abstractmethod
    def at(self, task: int, queries: int, way: int) -> Predictive:
        """The answers to the first `queries` queries of one task, without padding."""


@dataclass(frozen=True)
class Categorical(Predictive):
    """Distribution over classes, and beside it the probability that none of them is right.

    `expected_entropy` is the mean entropy of the sampled members; None for a deterministic learner,
    whose epistemic part is then None as well, never a made-up number.
    `set_level` maps an asked coverage to the probability mass at which prediction sets stop (conformal);
    None means uncalibrated: the mass is the coverage itself.
    """

    log_probs: Float[Tensor, "tasks query way"]
    expected_entropy: Float[Tensor, "tasks query"] | None = None
    unknown: Float[Tensor, "tasks query"] | None = None
    set_level: Callable[[float], Float[Tensor, "tasks"]] | None = None
    samples: int = 0

    @property
    def probabilities(self) -> Float[Tensor, "tasks query way"]:
        return self.log_probs.exp()

    @property
    def entropy(self) -> Float[Tensor, "tasks query"]:
        return categorical_entropy(self.log_probs)

    @property
    def epistemic(self) -> Float[Tensor, "tasks query"] | None:
        """Mutual information of answer and weights, × S/(S-1) against the bias of the plug-in estimate."""
        if self.expected_entropy is None:
            return None
        correction = self.samples / (self.samples - 1) if self.samples > 1 else 1.0
        return ((self.entropy - self.expected_entropy).clamp_min(0) * correction).minimum(self.entropy)

    def prediction_sets(self, coverage: float) -> Bool[Tensor, "tasks query way"]:
        """Classes in falling order of probability until the mass above them passes the level. Never empty."""
        probabilities = self.probabilities
        ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
        mass_above = (ranked.cumsum(-1) - ranked).clamp_min(0)
        if self.set_level is None:
            level = torch.full_like(probabilities[:, :1, :1], coverage)
        else:
            level = self.set_level(coverage)[:, None, None]
        inside = mass_above <= level + 1e-7
        inside[..., 0] = True
        sets = torch.zeros_like(inside).scatter(-1, order, inside)
        return sets & (self.log_probs > -torch.inf)

    def at(self, task: int, queries: int, way: int) -> Categorical:
        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[task : task + 1, :queries]

        level = self.set_level
        return Categorical(
            self.log_probs[task : task + 1, :queries, :way],
            cut(self.expected_entropy),
            cut(self.unknown),
            None if level is None else lambda coverage: level(coverage)[task : task + 1],
            self.samples,
        )


@dataclass(frozen=True)
class Gaussian(Predictive):
    """Regression: mean with the variance of the noise and, for stochastic learners, that of the mean."""

    mean: Float[Tensor, "tasks query target"]
    aleatoric: Float[Tensor, "tasks query target"]
    epistemic: Float[Tensor, "tasks query target"] | None = None

    def log_prob(self, y: Float[Tensor, "tasks query target"]) -> Float[Tensor, "tasks query"]:
        variance = self.aleatoric if self.epistemic is None else self.aleatoric + self.epistemic
        return torch.distributions.Normal(self.mean, variance.sqrt()).log_prob(y).sum(-1)

    def at(self, task: int, queries: int, way: int) -> Gaussian:
        one = (slice(task, task + 1), slice(queries))
        return Gaussian(
            self.mean[one], self.aleatoric[one], None if self.epistemic is None else self.epistemic[one]
        )


@dataclass(frozen=True)
class Density(Predictive):
    """A conditional density by its two functions; `sample` maps base noise to values."""

    log_prob: Callable[[Float[Tensor, "tasks query target"]], Float[Tensor, "tasks query"]]
    sample: Callable[[Float[Tensor, "tasks query target"]], Float[Tensor, "tasks query target"]]

    def at(self, task: int, queries: int, way: int) -> Density:
        raise NotImplementedError("a density is asked for the tasks of one request at a time")


@dataclass(frozen=True)
class Field(Predictive):
    """Values of a field at coordinates: colour, occupancy, a displaced point."""

    values: Float[Tensor, "tasks query target"]

    def at(self, task: int, queries: int, way: int) -> Field:
        return Field(self.values[task : task + 1, :queries])


def categorical_entropy(log_probs: Float[Tensor, "*batch way"]) -> Float[Tensor, "*batch"]:
    """-Σ p log p in log space: a class of probability 0 contributes 0, not NaN."""
    return -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(-1)
