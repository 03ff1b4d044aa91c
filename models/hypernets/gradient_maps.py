"""Maps of gradients to weights, one coordinate at a time (Andrychowicz et al. 2016, 1606.04474).

Every coordinate of a gradient of any layer goes through the same small network, so the maps fit targets of any size.
They read a number g as (log|g|/p, sign g) if |g| ≥ e^−p and as (−1, e^p g) below, p = 7.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_P = 7.0


def preprocessed(gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 2"]:
    """Return two numbers for each coordinate: gradients of many magnitudes on one scale."""
    least = math.exp(-_P)
    size = gradient.abs()
    magnitude = size.clamp_min(least).log() / _P
    sign = torch.where(size >= least, gradient.sign(), gradient / least)
    return torch.stack((magnitude, sign), dim=-1)


class GradientMlp(nn.Module):
    """Three layers that map one gradient to weights."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 1)
        )

    def forward(self, gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        weights: Tensor = self.layers(preprocessed(gradient))
        return weights[..., 0]


class GradientLstm(nn.Module):
    """An LSTM that maps a sequence of gradients to one set of weights."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, units, batch_first=True)
        self.leave = nn.Linear(units, 1)

    def forward(
        self, gradients: Float[Tensor, "tasks steps *shape"], count: Int[Tensor, "tasks"]
    ) -> Float[Tensor, "tasks *shape"]:
        """Read each task's first `count` gradients and no more."""
        tasks, _, *shape = gradients.shape
        coordinates = preprocessed(gradients.flatten(2)).transpose(1, 2)
        states, _ = self.lstm(coordinates.flatten(0, 1))
        last = (count - 1).repeat_interleave(coordinates.shape[1])
        weights: Tensor = self.leave(states[torch.arange(len(states), device=states.device), last])
        return weights.view(tasks, *shape)
