"""TargetArchitecture networks, whose weights a hypernetwork generates: flat vectors run as a batch of networks in one
pass.

A target has a body, whose shapes are defined here, and a linear head with one row [weights, bias] for each class. So
heads can differ in size, or grow, while the body stays.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from models.protocol import LearnerError

_SEQUENTIAL_QUERIES = 8
"""Queries per network from which, on a CPU, networks are faster one by one than as grouped convolutions."""


class TargetArchitecture(ABC):
    """The architecture of a target network.

    `hidden` is the length of the head's input, `activations` the approximate count of numbers stored per input for the
    gradient.
    """

    shapes: Mapping[str, tuple[int, ...]]
    hidden: int
    activations: int

    @property
    def body(self) -> int:
        """The count of numbers in the body."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def size(self, rows: int) -> int:
        """Return the count of numbers in a network whose head has `rows` rows."""
        return self.body + rows * (self.hidden + 1)

    def named(self, flat: Float[Tensor, "t body"]) -> dict[str, Tensor]:
        """Return the body's parameters by name, as views of the flat vectors."""
        parts = flat.split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        return {
            name: part.view(len(flat), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def variance(self, rows: int) -> Float[Tensor, "size"]:
        """Return the initial variance of each number (He et al. 2015): 2 / fan in, and 0 for biases."""
        parts = [torch.full((math.prod(shape),), _fan_in(shape)) for shape in self.shapes.values()]
        row = torch.full((self.hidden + 1,), 1 / self.hidden)
        row[-1] = 0
        return torch.cat([*parts, row.repeat(rows)])

    @abstractmethod
    def features(
        self, flat: Float[Tensor, "t body"], x: Float[Tensor, "t q *feature"]
    ) -> Float[Tensor, "t q hidden"]:
        """Return the input of each network's head for that network's queries."""


def head(rows: Float[Tensor, "t way row"], features: Float[Tensor, "t q hidden"]) -> Float[Tensor, "t q way"]:
    """Return the logits of each network's linear head."""
    if len(rows) == 1:
        return F.linear(features[0], rows[0, :, :-1], rows[0, :, -1])[None]
    return torch.baddbmm(rows[:, None, :, -1], features, rows[:, :, :-1].transpose(1, 2))


class MLPTarget(TargetArchitecture):
    """An MLP of ReLU layers on the flattened feature."""

    def __init__(self, shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
        dims = (math.prod(shape), *widths)
        self.hidden, self.activations = dims[-1], sum(dims)
        self.shapes = {
            f"{index}.{name}": size
            for index, (before, after) in enumerate(pairwise(dims))
            for name, size in (("weight", (after, before)), ("bias", (after,)))
        }

    def features(
        self, flat: Float[Tensor, "t body"], x: Float[Tensor, "t q *feature"]
    ) -> Float[Tensor, "t q hidden"]:
        hidden, layers = x.flatten(2), list(self.named(flat).values())
        for weight, bias in zip(layers[::2], layers[1::2], strict=True):
            if len(flat) == 1:
                hidden = F.relu(F.linear(hidden[0], weight[0], bias[0]))[None]
            else:
                hidden = F.relu(torch.baddbmm(bias[:, None], hidden, weight.transpose(1, 2)))
        return hidden


class ModuleTarget(TargetArchitecture):
    """Any module that maps [n, *feature] to [n, hidden], run through `functional_call` and `vmap`."""

    def __init__(
        self,
        module: nn.Module,
        hidden: int,
        activations: int = 0,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        if next(module.buffers(), None) is not None:
            # Running statistics would be shared by all tasks and change while others are being queried.
            raise LearnerError("a target network must not hold buffers: use group or layer normalisation")
        self.module, self.hidden, self.activations = module, hidden, activations
        self.memory_format = memory_format
        self.shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}

    def features(
        self, flat: Float[Tensor, "t body"], x: Float[Tensor, "t q *feature"]
    ) -> Float[Tensor, "t q hidden"]:
        if len(flat) == 1 or (x.device.type == "cpu" and x.shape[1] >= _SEQUENTIAL_QUERIES):
            return torch.stack([self._one(*each) for each in zip(flat, x, strict=True)])
        answers: Tensor = vmap(self._run)(self.named(flat), x)
        return answers

    def _one(self, flat: Float[Tensor, "body"], x: Float[Tensor, "q *feature"]) -> Float[Tensor, "q hidden"]:
        params = {name: value[0] for name, value in self.named(flat[None]).items()}
        return self._run(params, x.contiguous(memory_format=self.memory_format))

    def _run(self, params: dict[str, Tensor], x: Tensor) -> Tensor:
        answer: Tensor = functional_call(self.module, params, (x,))
        return answer


def _fan_in(shape: tuple[int, ...]) -> float:
    return 2 / math.prod(shape[1:]) if len(shape) > 1 else 0.0


_LENET = (20, 50)
_RESNET = (16, 16, 32, 64)
_BLOCKS = 5
_GROUPS = 8
_LEAST_SIDE = 8


def target(name: str, shape: tuple[int, ...], hidden: tuple[int, ...]) -> TargetArchitecture:
    """Return the named target. `hidden` are the widths of its fully connected layers; the ResNet has none.

    Raise `LearnerError` if a convolutional target is given features that are not images.
    """
    if name == "mlp":
        return MLPTarget(shape, hidden)
    if len(shape) != 3 or min(shape[1:]) < _LEAST_SIDE:
        raise LearnerError(
            f"target {name!r} needs features [channels, height, width] of at least {_LEAST_SIDE}x{_LEAST_SIDE}, "
            f"not {list(shape)}"
        )
    pixels = shape[1] * shape[2]
    with torch.device("meta"):
        # On the meta device, because the module never runs with its own weights.
        if name == "lenet":
            # Each convolution stores its output twice; the second has a quarter of the pixels.
            activations = pixels * (2 * _LENET[0] + _LENET[1] // 2) + sum(hidden)
            # Channels last is twice as fast on a CPU, but slows group normalisation down.
            return ModuleTarget(LeNet(shape, hidden), hidden[-1], activations, torch.channels_last)
        # Three outputs per convolution; a stage is twice as wide as the one before, at a quarter of its pixels.
        activations = 3 * (2 * _BLOCKS + 1) * 2 * _RESNET[0] * pixels
        return ModuleTarget(ResNet32(shape[0]), _RESNET[-1], activations)


class LeNet(nn.Module):
    """LeCun et al. 1998: two 5×5 convolutions of 20 and 50 filters, each pooled, then fully connected layers."""

    def __init__(self, shape: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 5, padding=2) for before, after in pairwise((channels, *_LENET))
        )
        flat = _LENET[-1] * (height // 4) * (width // 4)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise((flat, *hidden)))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n hidden"]:
        for convolution in self.convolutions:
            # Equal to pooling after the rectifier, with a quarter of the work.
            x = F.relu(F.max_pool2d(convolution(x), 2))
        x = x.flatten(1)
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class ResNet32(nn.Module):
    """He et al. 2015 for small images: three stages of five blocks of two 3×3 convolutions, 16, 32, 64 wide.

    As in the reference's hypernetworks, there are no batch statistics. A shortcut that changes shape halves the image
    and pads the channels, so it has no weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = _convolution(channels, _RESNET[0], 1)
        self.blocks = nn.ModuleList(
            _Block(before if index == 0 else after, after, 2 if index == 0 and before != after else 1)
            for before, after in pairwise(_RESNET)
            for index in range(_BLOCKS)
        )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n hidden"]:
        x = F.relu(_normalised(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3))


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(before, after, stride), _convolution(after, after, 1)
        self.stride, self.added = stride, after - before

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        out = _normalised(self.second(F.relu(_normalised(self.first(x)))))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(out + shortcut)


def _convolution(before: int, after: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)


def _normalised(x: Tensor) -> Tensor:
    return F.group_norm(x, _GROUPS)
