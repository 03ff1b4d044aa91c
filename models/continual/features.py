"""Fixed features for closed forms: nothing in them is learned, all of it follows from a seed.

Pictures: random filters, a rectifier, then the mean over each cell of a grid: a random convolutional layer (Saxe et
al. 2011) whose scores a ridge can tell apart. Vectors: themselves and rectified random projections, a random feature
map of the arc-cosine kernel (Cho & Saul 2009).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.protocol import LearnerError

_CHUNK = 128
"""Inputs at a time, fewer where one makes many numbers: what filters answer is a thousand times larger than it."""
_AT_ONCE = 1 << 25
"""Numbers made of all inputs that are taken at a time."""
_MOST = 1 << 25
"""Numbers that features may be drawn from, and answers of all filters to one picture."""
_LEAST_SIDE = 14
"""Smaller pictures have too few places for a filter to be at: they are taken as vectors."""


class FeatureConfig(BaseModel):
    """How many fixed features of which kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["auto", "patches", "projection"] = "auto"
    """`auto`: patches where an input is a picture, projections elsewhere."""
    count: int = Field(default=1024, ge=16, le=4096)
    """About how many: patches come in whole grids. The sums of a task have count² / 2 numbers."""
    side: int = Field(default=9, ge=3, le=11)
    """Of a filter, in pixels."""
    grid: int = Field(default=3, ge=1, le=8)
    """Cells per side that answers of a filter are averaged over."""


class FixedFeatures(nn.Module, ABC):
    """Shape by shape: any leading dimensions, then those of one input."""

    def __init__(self, shape: tuple[int, ...], dim: int, numbers: int) -> None:
        """`numbers` are made of one input on the way to its `dim` features."""
        super().__init__()
        self.shape = shape
        self.dim = dim
        self.chunk = min(_CHUNK, max(1, _AT_ONCE // numbers))

    def forward(self, x: Float[Tensor, "*input"]) -> Float[Tensor, "*lead f"]:
        lead = x.shape[: x.dim() - len(self.shape)]
        if x.shape[len(lead) :] != self.shape:
            raise LearnerError(f"features are made of inputs {list(self.shape)}, not {list(x.shape)}")
        with torch.no_grad():
            flat = x.float().reshape(-1, *self.shape)
            return torch.cat([self.lift(part) for part in flat.split(self.chunk)]).reshape(*lead, self.dim)

    @abstractmethod
    def lift(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]: ...


class Patches(FixedFeatures):
    """Filters of unit norm, each in its own direction; answers are averaged over the cells of a grid.

    A matrix is a picture of one channel.
    """

    filters: Tensor

    def __init__(self, shape: tuple[int, ...], channels: int, config: FeatureConfig, seed: int) -> None:
        count = max(1, round(config.count / config.grid**2))
        answers = count * math.prod(side - config.side + 1 for side in shape[-2:])
        _check(max(answers, count * channels * config.side**2))
        super().__init__(shape, count * config.grid**2, answers)
        drawn = torch.randn(
            count, channels, config.side, config.side, generator=torch.Generator().manual_seed(seed)
        )
        self.register_buffer("filters", F.normalize(drawn.flatten(1)).reshape(drawn.shape), persistent=False)
        self.grid = config.grid

    def lift(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]:
        pictures = x.reshape(len(x), self.filters.shape[1], *self.shape[-2:])
        return F.adaptive_avg_pool2d(F.conv2d(pictures, self.filters).relu_(), self.grid).flatten(1)


class Projection(FixedFeatures):
    """The input itself, and rectified random projections of it."""

    directions: Tensor

    def __init__(self, shape: tuple[int, ...], config: FeatureConfig, seed: int) -> None:
        size = math.prod(shape)
        # Where inputs alone have more numbers than there is room for, projections stand for them.
        self.identity = size <= config.count // 2
        count = config.count - size if self.identity else config.count
        _check(count * size)
        super().__init__(shape, config.count, config.count + size)
        drawn = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("directions", F.normalize(drawn), persistent=False)

    def lift(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]:
        flat = x.flatten(1)
        rectified = F.linear(flat, self.directions).relu_()
        return torch.cat((flat, rectified), 1) if self.identity else rectified


def fixed_features(shape: tuple[int, ...], config: FeatureConfig, seed: int) -> FixedFeatures:
    """Raises `LearnerError` where the shape has no patches, and where there would be too many numbers."""
    picture = shape if len(shape) == 3 else (1, *shape)
    fits = len(picture) == 3 and min(picture[1:]) >= max(_LEAST_SIDE, config.side + config.grid)
    if config.kind == "patches" and not fits:
        raise LearnerError(f"patches need pictures [channels, height, width], not inputs {list(shape)}")
    if config.kind == "projection" or not fits:
        return Projection(shape, config, seed)
    return Patches(shape, picture[0], config, seed)


def _check(numbers: int) -> None:
    if numbers > _MOST:
        raise LearnerError(
            f"hyperparameter features.count: {numbers:,} numbers are needed, more than {_MOST:,}"
        )
