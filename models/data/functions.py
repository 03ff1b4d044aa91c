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

    dim: int | None
    """None if it is drawn, one for all functions of a draw."""
    target: int
    most_points: int | None = None
    """Points that a function has, None if unlimited."""
    most_tasks: int | None = None
    """Functions of a draw that validation asks for, None if any number: they may have something in common."""

    def in_plain_units(self) -> Family:
        """Return the family with values of deviation about 1, whose errors can be averaged."""
        return self

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
    logarithmic: bool = False
    """All tasks of a step have the same number of shots, its logarithm uniform."""
    beyond: float = Field(default=0.0, ge=0, le=1)
    """Share of the tasks whose queries lie more and more to one side of the shots."""
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
        cut = config.max_shot
        if config.logarithmic:
            cut = _log_uniform(rng, config.min_shot, config.max_shot)
            shots = torch.full((config.tasks,), cut)
        x, y = self.family.draw(rng, config.tasks, cut + config.queries)
        if not config.logarithmic:
            shots = torch.randint(config.min_shot, config.max_shot + 1, (config.tasks,), generator=rng)
        if config.beyond:
            x, y = _sideways(rng, x, y, config.beyond)
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


def _log_uniform(rng: torch.Generator, low: int, high: int) -> int:
    """Draw a whole number between `low` and `high`, each octave as often as another."""
    share = float(torch.rand((), generator=rng))
    return min(high, int(low * ((high + 1) / low) ** share))


def _sideways(rng: torch.Generator, x: Tensor, y: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Order the points of a share of the tasks along one of their numbers, more or less strictly."""
    tasks, points, dim = x.shape
    column = torch.randint(dim, (tasks, 1, 1), generator=rng).expand(-1, points, -1)
    along = x.gather(2, column)[..., 0].argsort(1).argsort(1) / points
    turned = torch.rand(tasks, 1, generator=rng) < 0.5
    along = torch.where(turned, -along, along) * (torch.rand(tasks, 1, generator=rng) < share)
    loose = torch.rand(tasks, 1, generator=rng) * 2
    order = (along + loose * torch.rand(tasks, points, generator=rng)).argsort(1)[..., None]
    return x.gather(1, order.expand(-1, -1, dim)), y.gather(1, order.expand(-1, -1, y.shape[2]))
