"""Inputs and results of the engine. Times are milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from hyperserve.types import Timing
from models.predictive import Categorical, Predictive
from models.protocol import FIT, TaskWeights

Targets = Int64[np.ndarray, "n"] | Float32[np.ndarray, "n target"]


@dataclass(frozen=True)
class Load:
    """The load of the engine and of its memory."""

    waiting: int
    """Requests without an answer."""
    arena_bytes: int
    arena_limit: int


@dataclass(frozen=True)
class SupportSet:
    """One task's decoded examples, in order. `y` indexes `classes`, holds values, or is left out."""

    x: Float32[np.ndarray, "n *input"]
    y: Targets | None
    classes: tuple[str, ...]
    seed: int
    """Key of the noise: the same support set under the same seed gives the same answers."""


@dataclass(frozen=True)
class Adapted:
    """The weights of one task (on the CPU) and the features that they came from. Timing: queue, embed, adapt."""

    weights: TaskWeights
    features: Float32[np.ndarray, "n *feature"]
    timing: Timing

    @property
    def fit(self) -> float | None:
        """Return how well the support set fits what the encoder was trained on, None without a check."""
        value = self.weights.task.get(FIT)
        return None if value is None else float(value[0])


@dataclass(frozen=True)
class Answers:
    """The answers to one request as a batch of one task, on the CPU. Timing: queue, embed, predict."""

    predictive: Predictive
    timing: Timing
    features: Float[Tensor, "q *feature"]
    """Features of the queries, on the device: other weights of the same learner can be queried with them."""

    @property
    def fit(self) -> float | None:
        """Return the fit of the support set behind the answers, None without a check."""
        value = self.predictive.fit if isinstance(self.predictive, Categorical) else None
        return None if value is None else float(value[0])
