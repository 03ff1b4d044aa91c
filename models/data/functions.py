"""Families of functions to learn from few points: sinusoids, draws of a Gaussian process, pictures as fields.

A family draws functions with the points they are seen at; `FunctionSampler` makes tasks of them, keyed by
(purpose, seed, step), so that a training resumed at a step sees what it would have seen, and validation and
measurement never see a task of training, whatever the seeds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.data.dataset import DatasetError
from models.protocol import Episodes


class Family(ABC):
    """Functions of `dim` numbers with values of `target` numbers."""

    dim: int
    target: int
    most_points: int | None = None
    """Points that a function has, None if unlimited."""

    @abstractmethod
    def draw(
        self, rng: torch.Generator, tasks: int, points: int
    ) -> tuple[Float[Tensor, "tasks points dim"], Float[Tensor, "tasks points target"]]:
        """Draw functions at points in random order, none of them twice."""


@dataclass(frozen=True)
class Sinusoids(Family):
    """A sin(x + φ) with A in [0.1, 5], φ in [0, π], at x in [−5, 5], all uniform (MAML, 1703.03400)."""

    dim = target = 1
    low: float = -5.0
    high: float = 5.0

    def draw(self, rng: torch.Generator, tasks: int, points: int) -> tuple[Tensor, Tensor]:
        height, phase = self.parameters(rng, tasks)
        x = self.low + (self.high - self.low) * torch.rand(tasks, points, 1, generator=rng)
        return x, self.values(x, height, phase)

    @staticmethod
    def parameters(rng: torch.Generator, tasks: int) -> tuple[Float[Tensor, "tasks"], Float[Tensor, "tasks"]]:
        """Draw A and φ."""
        height, phase = torch.rand(2, tasks, generator=rng)
        return 0.1 + 4.9 * height, math.pi * phase

    @staticmethod
    def values(
        x: Float[Tensor, "tasks points 1"], height: Float[Tensor, "tasks"], phase: Float[Tensor, "tasks"]
    ) -> Float[Tensor, "tasks points 1"]:
        return height[:, None, None] * torch.sin(x + phase[:, None, None])


@dataclass(frozen=True)
class GaussianProcess(Family):
    """Draws with kernel σ_f² exp(−|x − x'|² / 2l²) at x uniform in [−2, 2], with noise of deviation `jitter` (CNP)."""

    dim = target = 1
    length: float = 0.4
    scale: float = 1.0
    jitter: float = 0.02
    low: float = -2.0
    high: float = 2.0

    def draw(self, rng: torch.Generator, tasks: int, points: int) -> tuple[Tensor, Tensor]:
        x = self.low + (self.high - self.low) * torch.rand(tasks, points, 1, generator=rng)
        wide = x.double()
        covariance = self.scale**2 * (-0.5 * (wide - wide.transpose(1, 2)).square() / self.length**2).exp()
        covariance = covariance + self.jitter**2 * torch.eye(points, dtype=torch.double)
        white = torch.randn(tasks, points, 1, generator=rng, dtype=torch.double)
        return x, (torch.linalg.cholesky(covariance) @ white).float()


class Completion(Family):
    """Pictures as functions: from the place of a pixel, (row, column) in [0, 1]², to its grey or its colour."""

    dim = 2

    def __init__(self, pictures: Float[Tensor, "n channels height width"]) -> None:
        if not len(pictures):
            raise DatasetError("there are no pictures to complete")
        self.target = pictures.shape[1]
        height, width = pictures.shape[2:]
        self.most_points = height * width
        rows, columns = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
        self.places = torch.cartesian_prod(rows, columns)
        self.values = pictures.flatten(2).transpose(1, 2)

    def draw(self, rng: torch.Generator, tasks: int, points: int) -> tuple[Tensor, Tensor]:
        picture = torch.randint(len(self.values), (tasks, 1), generator=rng)
        pixel = torch.rand(tasks, len(self.places), generator=rng).argsort(1)[:, :points]
        return self.places[pixel], self.values[picture, pixel]


class FunctionConfig(BaseModel):
    """Ranges of drawn tasks, all closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_shot: int = Field(default=10, ge=1)
    max_shot: int = Field(default=10, ge=1)
    """Shots of a task, uniform between these."""
    queries: int = Field(default=10, ge=1)
    """Points beside the shots."""
    tasks: int = Field(default=25, ge=1)
    """Number of tasks of a step."""


class Purpose(IntEnum):
    """Purpose of drawn tasks: those of one purpose are never those of another."""

    training = 0
    validation = 1
    measurement = 2


class FunctionSampler:
    """Source of the tasks of a step."""

    def __init__(
        self, family: Family, config: FunctionConfig, seed: int, purpose: Purpose = Purpose.training
    ) -> None:
        points = config.max_shot + config.queries
        if config.min_shot > config.max_shot:
            raise DatasetError(f"{config.min_shot} to {config.max_shot} shots is no range")
        if family.most_points is not None and points > family.most_points:
            raise DatasetError(
                f"{config.max_shot} shots and {config.queries} queries are more than {family.most_points} points"
            )
        self.family, self.config, self.seed, self.purpose = family, config, seed, purpose

    def generator(self, step: int) -> torch.Generator:
        """Return the generator of everything random in a step."""
        state = np.random.SeedSequence((self.purpose, self.seed, step)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> 1))

    def episodes(self, step: int, augmentation: object = None) -> Episodes:
        """Return the tasks of a step. Functions are not augmented."""
        config, rng = self.config, self.generator(step)
        x, y = self.family.draw(rng, config.tasks, config.max_shot + config.queries)
        shots = torch.randint(config.min_shot, config.max_shot + 1, (config.tasks,), generator=rng)
        cut = config.max_shot
        return Episodes(
            support_x=x[:, :cut],
            support_y=y[:, :cut],
            support_mask=torch.arange(cut) < shots[:, None],
            query_x=x[:, cut:],
            query_y=y[:, cut:],
            query_mask=torch.ones(config.tasks, config.queries, dtype=torch.bool),
            n_way=torch.zeros(config.tasks, dtype=torch.long),
            unseen=torch.zeros(config.tasks, dtype=torch.bool),
            seed=(self.seed * 1_000_003 + step) * 4096 + torch.arange(config.tasks),
        )
