"""Noise as a function, not a generator.

A draw is keyed by (seed of the task, digest of the class label, sample index), so that an answer depends
neither on its neighbours in a batch nor on the order of labels. The hash is the finaliser of SplitMix64
(Steele, Lea, Flood 2014) in wrapping 64-bit integers; normals come by the inverse distribution function.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift logically: torch shifts signed integers arithmetically."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def label_key(label: str) -> int:
    """Return the signed 64-bit digest of a class label."""
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big", signed=True)


def content_key(values: Float[Tensor, "*lead d"]) -> Int[Tensor, "*lead"]:
    """Hash the bits of each vector, for an order or a sample that depends on content alone."""
    bits = values.float().contiguous().view(torch.int32).long()
    weight = _mix(torch.arange(1, bits.shape[-1] + 1, device=bits.device) * _GOLDEN) | 1
    return _mix((bits * weight).sum(-1))


@dataclass(frozen=True)
class Noise:
    """Request to a stochastic learner for `samples` draws per answer."""

    samples: int

    def normal(
        self, seed: Int[Tensor, "tasks"], class_key: Int[Tensor, "tasks way"]
    ) -> Float[Tensor, "tasks way samples"]:
        """Return standard normal draws, one stream per (task seed, class)."""
        sample = torch.arange(1, self.samples + 1, device=seed.device)
        stream = _mix(_mix(seed[:, None] * _GOLDEN + 1) ^ class_key)
        bits = _shift_right(_mix(stream[..., None] + sample * _GOLDEN), 11)
        uniform = (bits.double() + 0.5) * 2.0**-53
        draws: Tensor = torch.special.ndtri(uniform).float()
        return draws
