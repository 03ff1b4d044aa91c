"""Noise of a regression learner that answers with a mean alone: the error it makes after so many examples.

The variance is measured on validation tasks at some numbers of shots; between them its logarithm is linear in the
logarithm of the number, beyond them it is that of the nearest. It holds on average over tasks and inputs, as one
number cannot know where in the input space the examples are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

SHOTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_LEAST = 1e-6


class ShotNoise(nn.Module):
    """Variance by number of shots, 1 until it is fitted."""

    log_variance: Float[Tensor, "shots target"]

    def __init__(self, target: int) -> None:
        super().__init__()
        self.register_buffer("log_variance", torch.zeros(len(SHOTS), target))

    def fit(self, measured: Mapping[int, Float[Tensor, "target"]]) -> None:
        """Fit the variance to `measured`, the mean squared error at some numbers of shots, at least one."""
        known = sorted(measured)
        logs = torch.stack([measured[shot].clamp_min(_LEAST).log() for shot in known])
        grid = torch.tensor(SHOTS, dtype=logs.dtype)
        self.log_variance.copy_(_interpolated(grid.log(), [math.log(shot) for shot in known], logs))

    def forward(self, shots: Float[Tensor, "tasks"]) -> Float[Tensor, "tasks target"]:
        knots = [math.log(shot) for shot in SHOTS]
        return _interpolated(shots.clamp_min(1).log(), knots, self.log_variance).exp()


def _interpolated(
    at: Float[Tensor, "n"], knots: list[float], values: Float[Tensor, "knots target"]
) -> Float[Tensor, "n target"]:
    """Interpolate linearly between knots in rising order; constant beyond."""
    places = torch.tensor(knots, dtype=at.dtype, device=at.device)
    above = torch.searchsorted(places, at).clamp(0, len(knots) - 1)
    below = (above - 1).clamp_min(0)
    width = (places[above] - places[below]).clamp_min(1e-9)
    share = ((at - places[below]) / width).clamp(0, 1)[:, None]
    return (1 - share) * values[below] + share * values[above]
