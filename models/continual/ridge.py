"""Ridge regression on running sums: each stream task leaves its own, any set of them is solved together.

With φ the features of an example and y its one-hot class, both about their means,

    W = (Σ φφᵀ + λI)⁻¹ Σ φyᵀ,    score of class c = P(c) + w_c (φ - mean).

Sums know no order, so the solution of the tasks that remain is that of a stream which never saw the forgotten one.
What a task keeps: half of its scatter (`models.continual.ridge`), the sum of features and the count of each class.
Sums over tasks and all that is solved are float64. λ is that of the highest marginal likelihood (MacKay 1992), one
noise level for all classes. Leaving one example out is closed form: y - ŷ₋ᵢ = (y - ŷ) / (1 - h), h its leverage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from models.protocol import LearnerError


def pack(matrix: Float[Tensor, "f f"]) -> Float[Tensor, "diagonals f"]:
    """f // 2 + 1 diagonals; where f is even, the last holds its entries twice."""
    size = len(matrix)
    twice = torch.cat((matrix, matrix), 1)
    return twice.as_strided((size // 2 + 1, size), (1, 2 * size + 1)).clone()


def unpack(diagonals: Float[Tensor, "diagonals f"]) -> Float[Tensor, "f f"]:
    """The whole matrix, symmetric to the bit."""
    size = diagonals.shape[1]
    twice = diagonals.new_zeros(size, 2 * size)
    into = twice.as_strided(diagonals.shape, (1, 2 * size + 1))
    into.copy_(diagonals)
    if size % 2 == 0:
        into[-1, size // 2 :] = 0
    half = twice[:, :size] + twice[:, size:]
    return half + half.T - torch.diag(half.diagonal())


def outer(vector: Float[Tensor, "f"]) -> Float[Tensor, "diagonals f"]:
    """What `pack` makes of the vector's outer product with itself."""
    size = len(vector)
    around = torch.cat((vector, vector)).as_strided((size // 2 + 1, size), (1, 1))
    return around * vector


PENALTIES = tuple(10.0**-power for power in (-1, 0, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6))
"""Candidates of λ, relative to the mean scatter of a feature."""
_TINY = 1e-12
_LEAST_KEPT = 0.02
"""Below, rounding of what was stored would speak."""

Precision = Literal["float32", "int16"]
_STEPS = 32767
_AT_ONCE = 4096


def sums(
    features: Float[Tensor, "n f"], y: Int[Tensor, "n"], way: int, precision: Precision = "float32"
) -> dict[str, Tensor]:
    """What a stream task keeps: about 2 f² bytes in float32, half of that in int16.

    The scatter is stored relative to the deviations of its features: correlations have one scale, so that even steps
    serve all of them. Half precision would not: its steps are widest where features are most alike.
    """
    size = features.shape[1]
    class_sums = torch.zeros(way, size, dtype=torch.float64)
    scatter = torch.zeros(size, size, dtype=torch.float64)
    # In parts, since double precision of all examples at once may be more than there is memory for.
    parts = list(zip(features.split(_AT_ONCE), y.split(_AT_ONCE), strict=True))
    for some, classes in parts:
        class_sums.index_add_(0, classes, some.double())
    mean = class_sums.sum(0) / len(y)
    for some, _ in parts:
        centred = some.double() - mean
        scatter.addmm_(centred.T, centred)
    deviation = scatter.diagonal().sqrt().float().clamp_min(_TINY)
    correlation = pack(scatter) / outer(deviation.double())
    return {
        "scatter": correlation.float() if precision == "float32" else (correlation * _STEPS).round().short(),
        "deviation": deviation,
        "class_sums": class_sums.float(),
        "counts": y.bincount(minlength=way),
    }


@dataclass(frozen=True)
class Moments:
    """Of the examples of some stream tasks together, float64. `classes` are those of all of them in their order."""

    scatter: Float[Tensor, "f f"]
    """About the mean of all."""
    mean: Float[Tensor, "f"]
    cross: Float[Tensor, "f classes"]
    """Σ φyᵀ, about the means."""
    counts: Float[Tensor, "classes"]

    @property
    def n(self) -> float:
        return float(self.counts.sum())


def moments(parts: Iterable[Mapping[str, Tensor]]) -> Moments:
    """Of one or more tasks, their classes in the order of the parts. Sum them in a fixed order: rounding has one."""
    own = list(parts)
    if not own:
        raise LearnerError("there are no sums to solve")
    packed = torch.zeros((), dtype=torch.float64)
    for part in own:
        packed = packed + _scatter(part)
    of_class = torch.cat([part["class_sums"].double() for part in own])
    counts = torch.cat([part["counts"].double() for part in own])
    of_task = torch.stack([part["class_sums"].double().sum(0) for part in own])
    n_task = torch.stack([part["counts"].double().sum() for part in own])
    mean = of_task.sum(0) / n_task.sum()
    apart = (of_task / n_task[:, None] - mean) * n_task[:, None].sqrt()
    return Moments(
        unpack(packed) + apart.T @ apart, mean, (of_class - counts[:, None] * mean).T.contiguous(), counts
    )


def without(found: Moments, part: Mapping[str, Tensor], first: int) -> Moments:
    """`found` less one of its parts, whose classes begin at `first`: by subtraction."""
    counts = part["counts"].double()
    of_task, m = part["class_sums"].double().sum(0), counts.sum()
    n = found.n - m
    apart = of_task / m - found.mean
    within = unpack(_scatter(part))
    scatter = found.scatter - within - torch.outer(apart, apart) * (m * found.n / n)
    mean = (found.n * found.mean - of_task) / n
    stay = torch.ones(len(found.counts), dtype=torch.bool)
    stay[first : first + len(counts)] = False
    left = found.counts[stay]
    return Moments(scatter, mean, found.cross[:, stay] + left * (found.mean - mean)[:, None], left)


@dataclass(frozen=True)
class Solution:
    """Scores are `rows` φ + `bias`, float64. `factor` is the lower Cholesky factor of Σ φφᵀ + λI."""

    rows: Float[Tensor, "classes f"]
    bias: Float[Tensor, "classes"]
    factor: Float[Tensor, "f f"]
    mean: Float[Tensor, "f"]
    penalty: float
    """λ, relative to the mean scatter of a feature."""
    n: float

    def scores(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n classes"]:
        return features.double() @ self.rows.T + self.bias

    def leverage(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n"]:
        """φᵀ(Σ φφᵀ + λI)⁻¹φ + 1/n: from 0 to 1 for an example of the sums, more for what is unlike them."""
        centred = (features.double() - self.mean).T
        half: Tensor = torch.linalg.solve_triangular(self.factor, centred, upper=False)
        return half.square().sum(0) + 1 / self.n

    def left_out(
        self, features: Float[Tensor, "n f"], y: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n"]]:
        """The scores and the leverage that examples of the sums would have, had they not been among them."""
        hot = F.one_hot(y, len(self.bias)).double()
        leverage = self.leverage(features)
        kept = (1 - leverage).clamp_min(_LEAST_KEPT)
        return hot - (hot - self.scores(features)) / kept[:, None], leverage / kept


def solve(found: Moments, penalty: float | None = None) -> Solution:
    """With the λ given (relative), or that of the highest marginal likelihood. Raises `LearnerError`."""
    if penalty is not None:
        return _solved(found, penalty, _factor(found, penalty))
    best: tuple[float, float, Tensor] | None = None
    for candidate in PENALTIES:
        factor = _factor(found, candidate)
        evidence = _evidence(found, candidate, factor)
        if best is not None and evidence <= best[0]:
            break
        best = (evidence, candidate, factor)
    assert best is not None
    return _solved(found, best[1], best[2])


def _solved(found: Moments, penalty: float, factor: Tensor) -> Solution:
    rows = torch.cholesky_solve(found.cross, factor).T.contiguous()
    bias = found.counts / found.n - rows @ found.mean
    if not rows.isfinite().all():
        raise LearnerError("the features of these examples have no ridge regression: they are not finite")
    return Solution(rows, bias, factor, found.mean, penalty, found.n)


def _factor(found: Moments, penalty: float) -> Tensor:
    """Of Σ φφᵀ + λI; λ grows where rounding of what was stored has left it without one."""
    scale = float(found.scatter.diagonal().mean()) + _TINY
    for _ in range(12):
        shifted = found.scatter.clone()
        shifted.diagonal().add_(penalty * scale)
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not int(failed):
            return factor
        penalty *= 10
    raise LearnerError("the features of these examples have no ridge regression: they are not finite")


def _evidence(found: Moments, penalty: float, factor: Tensor) -> float:
    """log p(Y | Φ, λ) at its best noise level, up to a constant: -K/2 (n log Σ residual + log |A| - f log λ)."""
    scale = float(found.scatter.diagonal().mean()) + _TINY
    half = torch.linalg.solve_triangular(factor, found.cross, upper=False)
    share = found.counts / found.n
    residual = float((found.n * share * (1 - share)).sum() - half.square().sum())
    determinant = 2 * float(factor.diagonal().log().sum())
    size = len(found.mean)
    fit = found.n * math.log(max(residual, _TINY))
    return -0.5 * len(share) * (fit + determinant - size * math.log(penalty * scale))


def _scatter(part: Mapping[str, Tensor]) -> Float[Tensor, "diagonals f"]:
    """Of a task about its own mean, packed, as it was before it was stored."""
    stored = part["scatter"]
    step = 1.0 if stored.is_floating_point() else 1 / _STEPS
    return outer(part["deviation"].double()).mul_(step).mul_(stored)
