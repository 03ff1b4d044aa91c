"""Hypernetwork of one trunk and several tails: a description of a class becomes one or more rows of numbers.

The form of HyperMAML (2205.15745) and BayesHMAML (2210.02796): an MLP with ReLU, each tail its last linear layer.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

_START = 1e-3
"""Deviation of the last layers at the start: rows that are added to learned ones begin near 0."""


class RowTails(nn.Module):
    """The hypernetwork. `layers` counts linear layers, including that of the tail."""

    def __init__(self, inputs: int, outputs: int, tails: Sequence[str], hidden: int, layers: int) -> None:
        super().__init__()
        trunk: list[nn.Module] = []
        for index in range(layers - 1):
            trunk += [nn.Linear(hidden if index else inputs, hidden), nn.ReLU()]
        self.trunk = nn.Sequential(*trunk)
        width = hidden if trunk else inputs
        self.tails = nn.ModuleDict({name: nn.Linear(width, outputs) for name in tails})
        for tail in self.tails.values():
            assert isinstance(tail, nn.Linear)
            nn.init.normal_(tail.weight, std=_START)
            nn.init.zeros_(tail.bias)

    def forward(self, x: Float[Tensor, "*lead inputs"]) -> dict[str, Float[Tensor, "*lead outputs"]]:
        shared = self.trunk(x)
        return {name: tail(shared) for name, tail in self.tails.items()}
