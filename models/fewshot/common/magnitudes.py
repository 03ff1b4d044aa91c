"""Vectors of any magnitude, whose squares may be beyond 32-bit floats.

Divisions by powers of two are exact: what does not overflow or underflow without them gives the same numbers with them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def unit_vectors(x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
    """Return each vector divided by its norm; zeros stay zeros."""
    return F.normalize(x / magnitude(x.detach().abs().amax(-1, keepdim=True)), dim=-1)


def magnitude(largest: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Return the power of two at or below each number; 1 for 0."""
    power = largest * 0.5 / torch.frexp(largest).mantissa
    return torch.where(largest == 0, 1.0, power).clamp_min(torch.finfo(power.dtype).tiny)
