"""Predictions: a small family of distributions. Entropies are in nats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ROUNDING = 1e-7


class Predictive(ABC):
    """Base of every answer; `at` cuts a batch into its tasks."""

    @abstractmethod
    def at(self, task: int, queries: int, way: int) -> Predictive:
        """Return the answers to the first `queries` queries of one task, without padding."""


@dataclass(frozen=True)
class Categorical(Predictive):
    """Distribution over classes, with the probability that none of them is right.

    `expected_entropy` is the mean entropy of the sampled members; None for a deterministic learner,
    whose epistemic part is then None as well.
    `set_levels` holds, for coverages in even steps from 0 to 1, the probability mass at which prediction sets
    stop (conformal); None means that the mass is the coverage itself, which it never falls below.
    `novelty` is the raw score behind `unknown`.
    """

    log_probs: Float[Tensor, "tasks query way"]
    expected_entropy: Float[Tensor, "tasks query"] | None = None
    unknown: Float[Tensor, "tasks query"] | None = None
    set_levels: Float[Tensor, "tasks levels"] | None = None
    samples: int = 0
    novelty: Float[Tensor, "tasks query"] | None = None
    fit: Float[Tensor, "tasks"] | None = None
    """How well each support set fits what the encoder was trained on (`Encoder.familiarity`)."""

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
        """Return classes in falling order of probability until the mass above them passes the level; never none.

        The level is at least the coverage: a table of other tasks, on which the label alone was right often enough,
        must not make sets smaller than the answer's own doubt allows.
        """
        mass = self.mass_above()
        if self.set_levels is None:
            level = torch.full_like(mass[:, :1, :1], coverage)
        else:
            step = math.ceil(coverage * (self.set_levels.shape[1] - 1) - _ROUNDING)
            level = self.set_levels[:, step, None, None].clamp_min(coverage)
        return (mass <= level + _ROUNDING) & (self.log_probs > -torch.inf)

    def ranking(self) -> Int[Tensor, "tasks query way"]:
        """Classes in falling order of probability, the first of equals first: labels and sets share it."""
        return self.log_probs.sort(dim=-1, descending=True, stable=True).indices

    def mass_above(self) -> Float[Tensor, "tasks query way"]:
        """Return for each class the probability of all classes ranked above it: 0 for the label."""
        order = self.ranking()
        ranked = self.probabilities.gather(-1, order)
        mass = (ranked.cumsum(-1) - ranked).clamp_min(0)
        mass[..., 0] = 0
        return torch.empty_like(mass).scatter(-1, order, mass)

    def at(self, task: int, queries: int, way: int) -> Categorical:
        def cut(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[task : task + 1, :queries]

        levels = self.set_levels
        return Categorical(
            self.log_probs[task : task + 1, :queries, :way],
            cut(self.expected_entropy),
            cut(self.unknown),
            None if levels is None else levels[task : task + 1],
            self.samples,
            cut(self.novelty),
            None if self.fit is None else self.fit[task : task + 1],
        )


@dataclass(frozen=True)
class Gaussian(Predictive):
    """Regression: mean with the variance of the noise and, for stochastic learners, that of the mean."""

    mean: Float[Tensor, "tasks query target"]
    aleatoric: Float[Tensor, "tasks query target"]
    epistemic: Float[Tensor, "tasks query target"] | None = None

    def log_prob(self, y: Float[Tensor, "tasks query target"]) -> Float[Tensor, "tasks query"]:
        variance = self.aleatoric if self.epistemic is None else self.aleatoric + self.epistemic
        return -0.5 * ((y - self.mean).square() / variance + (2 * math.pi * variance).log()).sum(-1)

    def at(self, task: int, queries: int, way: int) -> Gaussian:
        one = (slice(task, task + 1), slice(queries))
        return Gaussian(
            self.mean[one], self.aleatoric[one], None if self.epistemic is None else self.epistemic[one]
        )


@dataclass(frozen=True)
class Density(Predictive):
    """Log density at the queries, in nats, and with noise draws from the density.

    It holds values, not functions, so that answers of many tasks are computed together and then cut apart.
    """

    log_prob: Float[Tensor, "tasks query"]
    samples: Float[Tensor, "tasks samples target"] | None = None

    def at(self, task: int, queries: int, way: int) -> Density:
        one = slice(task, task + 1)
        return Density(self.log_prob[one, :queries], None if self.samples is None else self.samples[one])


@dataclass(frozen=True)
class Field(Predictive):
    """Values of a field at coordinates: colour, occupancy, a displaced point."""

    values: Float[Tensor, "tasks query target"]

    def at(self, task: int, queries: int, way: int) -> Field:
        return Field(self.values[task : task + 1, :queries])


def categorical_entropy(log_probs: Float[Tensor, "*batch way"]) -> Float[Tensor, "*batch"]:
    """Return -Σ p log p in log space: a class of probability 0 contributes 0, not NaN."""
    return -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(-1)
