"""Hypernetwork of a neck and one head per target tensor: an embedding of a task becomes a small network's tensors.

The form of HyperShot (2203.11378): the neck is a chain of linear layers with ReLU between them and none after the
last; a head is an MLP whose output is one whole tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn


class TensorHeads(nn.Module):
    """The hypernetwork. `shapes` are those of the target tensors; `neck` and `head` count linear layers."""

    def __init__(
        self, inputs: int, shapes: Mapping[str, tuple[int, ...]], hidden: int, neck: int, head: int
    ) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        layers: list[nn.Module] = []
        for index in range(neck):
            layers += [*([nn.ReLU()] if index else []), nn.Linear(hidden if index else inputs, hidden)]
        self.neck = nn.Sequential(*layers)
        width = hidden if neck else inputs
        self.heads = nn.ModuleDict(
            {name: _head(width, shape, hidden, head) for name, shape in self.shapes.items()}
        )

    def forward(self, x: Float[Tensor, "*lead inputs"]) -> dict[str, Float[Tensor, "*lead ..."]]:
        shared = self.neck(x)
        return {name: self.heads[name](shared).unflatten(-1, shape) for name, shape in self.shapes.items()}


def _head(width: int, shape: tuple[int, ...], hidden: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    last = nn.Linear(width, math.prod(shape))
    # The target starts near an ordinary network, not near 0: its usual initialisation is the constant part.
    bound = 1 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.0
    nn.init.uniform_(last.bias, -bound, bound)
    return nn.Sequential(*layers, last)
