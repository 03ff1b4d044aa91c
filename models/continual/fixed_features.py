"""Fixed random features for closed forms: nothing is learned, and everything follows from a seed.

Images: random filters, a rectifier, then the mean over each cell of a grid, which is a random convolutional layer (Saxe
et al. 2011), of the pixels and of a layer of oriented edges (Dalal & Triggs 2005). Vectors: the vector itself and
rectified random projections of it, a random feature map of the arc-cosine kernel (Cho & Saul 2009).
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

_BATCH = 128
"""Inputs per batch; fewer if their filter responses, a thousand times larger than an image, would exceed the limit."""
_BATCH_NUMBERS = 1 << 25
"""Most intermediate numbers per batch."""
_MOST_NUMBERS = 1 << 25
"""Most random numbers in the filters, and most filter responses to one image."""
_EDGE_SIDE, _EDGE_GRID = 3, 2
"""Side of a filter of edges, at half the resolution of the image, and cells per side over which it is averaged."""
_DIRECTIONS = 8
_AROUND = 7
"""Side of the neighbourhood, in pixels, whose edges an edge is compared with."""
_FAINT = 0.02
"""Squared strength at which edges count half: fainter ones are noise. An edge from black to white has 1."""
_LEAST_SIDE = 14
"""Smaller images have too few filter positions and are treated as vectors."""


class FeatureConfig(BaseModel):
    """Kind and number of fixed features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["edges", "auto", "patches", "projection"] = "edges"
    """`edges` chooses for images patches of pixels and, as many, of oriented edges; `auto` patches of pixels alone; and
    both projections for all other inputs. `auto` is what streams had before there were edges."""
    count: int = Field(default=1024, ge=16, le=4096)
    """Approximate number, since patches come in whole grids. The sums of a task have count² / 2 numbers."""
    side: int = Field(default=9, ge=3, le=11)
    """Side of a filter of pixels."""
    grid: int = Field(default=3, ge=1, le=8)
    """Cells per side over which the responses of a filter of pixels are averaged."""


class FixedFeatures(nn.Module, ABC):
    """Features of inputs with any leading dimensions, followed by those of one input."""

    def __init__(self, shape: tuple[int, ...], dim: int, numbers: int) -> None:
        """Set the batch size. One input makes `numbers` intermediate numbers on the way to its `dim` features."""
        super().__init__()
        self.shape = shape
        self.dim = dim
        self.chunk = min(_BATCH, max(1, _BATCH_NUMBERS // numbers))

    def forward(self, x: Float[Tensor, "*input"]) -> Float[Tensor, "*lead f"]:
        lead = x.shape[: x.dim() - len(self.shape)]
        if x.shape[len(lead) :] != self.shape:
            raise LearnerError(f"expected inputs of shape {list(self.shape)}, not {list(x.shape)}")
        with torch.no_grad():
            flat = x.float().reshape(-1, *self.shape)
            return torch.cat([self.lift(part) for part in flat.split(self.chunk)]).reshape(*lead, self.dim)

    @abstractmethod
    def lift(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]:
        """Return the features of one batch."""


class Patches(FixedFeatures):
    """Filters of unit norm in random directions, with responses averaged over the cells of a grid.

    A matrix is an image of one channel.
    """

    filters: Tensor

    def __init__(self, shape: tuple[int, ...], channels: int, config: FeatureConfig, seed: int) -> None:
        count = max(1, round(config.count / config.grid**2))
        responses = count * math.prod(side - config.side + 1 for side in shape[-2:])
        _check(max(responses, count * channels * config.side**2))
        super().__init__(shape, count * config.grid**2, responses)
        drawn = torch.randn(
            count, channels, config.side, config.side, generator=torch.Generator().manual_seed(seed)
        )
        self.register_buffer("filters", F.normalize(drawn.flatten(1)).reshape(drawn.shape), persistent=False)
        self.grid = config.grid

    def lift(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]:
        images = x.reshape(len(x), self.filters.shape[1], *self.shape[-2:])
        return F.adaptive_avg_pool2d(F.conv2d(images, self.filters).relu_(), self.grid).flatten(1)


class Edges(FixedFeatures):
    """Patches of edges: edges of eight directions and the image itself, at half its resolution, under random filters
    with responses averaged over the cells of a grid.

    Edges are those of the mean over channels, relative to the strength of the edges around them.
    """

    filters: Tensor
    directions: Tensor

    def __init__(self, shape: tuple[int, ...], channels: int, count: int, seed: int) -> None:
        """`count` is the approximate number of features."""
        count = max(1, round(count / _EDGE_GRID**2))
        maps = channels + _DIRECTIONS
        responses = max(count, 4 * maps) * math.prod(-(-side // 2) for side in shape[-2:])
        _check(max(responses, count * maps * _EDGE_SIDE**2))
        super().__init__(shape, count * _EDGE_GRID**2, responses)
        drawn = torch.randn(
            count, maps, _EDGE_SIDE, _EDGE_SIDE, generator=torch.Generator().manual_seed(seed)
        )
        self.register_buffer("filters", F.normalize(drawn.flatten(1)).reshape(drawn.shape), persistent=False)
        self.register_buffer("directions", _derivatives(), persistent=False)

    def lift(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]:
        images = x.reshape(len(x), self.filters.shape[1] - _DIRECTIONS, *self.shape[-2:])
        edges = F.conv2d(images.mean(1, keepdim=True), self.directions, padding=1).relu_()
        around = F.avg_pool2d(edges.square().sum(1, keepdim=True), _AROUND, 1, _AROUND // 2)
        edges = edges / (around + _FAINT).sqrt()
        maps = F.avg_pool2d(torch.cat((edges, images), 1), 2)
        responses = F.conv2d(maps, self.filters, padding=_EDGE_SIDE // 2).relu_()
        return F.adaptive_avg_pool2d(responses, _EDGE_GRID).flatten(1)


def _derivatives() -> Float[Tensor, "directions 1 3 3"]:
    """Return Sobel filters of the derivatives along directions spread over the circle."""
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    angles = torch.arange(_DIRECTIONS) * (2 * math.pi / _DIRECTIONS)
    return (angles.cos()[:, None, None] * across + angles.sin()[:, None, None] * across.T)[:, None]


class PatchesAndEdges(FixedFeatures):
    """Patches of pixels and patches of edges, about half of the features each."""

    def __init__(self, shape: tuple[int, ...], channels: int, config: FeatureConfig, seed: int) -> None:
        half = config.model_copy(update={"count": config.count // 2})
        patches = Patches(shape, channels, half, seed)
        edges = Edges(shape, channels, config.count - half.count, seed + 1)
        # They take batches of their own.
        super().__init__(shape, patches.dim + edges.dim, patches.dim + edges.dim)
        self.patches, self.edges = patches, edges

    def lift(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n f"]:
        # Not of unit length: that gains 0.3 points, but strength of ink tells foreign images.
        return torch.cat((self.patches(x), self.edges(x)), 1)


class Projection(FixedFeatures):
    """The input itself and rectified random projections of it."""

    directions: Tensor

    def __init__(self, shape: tuple[int, ...], config: FeatureConfig, seed: int) -> None:
        size = math.prod(shape)
        # Inputs that would take more than half of the features are represented by projections alone.
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
    """Return the features. Raise `LearnerError` if the shape has no patches or the features need too many numbers."""
    image = shape if len(shape) == 3 else (1, *shape)
    fits = len(image) == 3 and min(image[1:]) >= max(_LEAST_SIDE, config.side + config.grid)
    if config.kind == "patches" and not fits:
        raise LearnerError(
            f"patches need images [channels, height, width], not inputs of shape {list(shape)}"
        )
    if config.kind == "projection" or not fits:
        return Projection(shape, config, seed)
    kind = PatchesAndEdges if config.kind == "edges" else Patches
    return kind(shape, image[0], config, seed)


def _check(numbers: int) -> None:
    if numbers > _MOST_NUMBERS:
        raise LearnerError(
            f"hyperparameter features.count needs {numbers:,} numbers, more than {_MOST_NUMBERS:,}; reduce it"
        )
