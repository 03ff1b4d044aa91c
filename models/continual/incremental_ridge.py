"""Ridge regression on running sums: each stream task stores its own, and any set of them can be solved together.

With φ the features of an example and y its one-hot class, both about their means,

    W = (Σ φφᵀ + λI)⁻¹ Σ φyᵀ,    score of class c = P(c) + w_c (φ - mean).

Sums do not depend on order, so the solution after forgetting a task is that of a stream which never saw it. A task
stores half of its symmetric scatter matrix, and the sum of features and the count of each class. Sums over tasks and
solutions are float64. λ has the highest marginal likelihood (MacKay 1992), with one noise level for all classes.
Leaving one example out has a closed form: y - ŷ₋ᵢ = (y - ŷ) / (1 - h), h its leverage.
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
    """Return the f // 2 + 1 diagonals of a symmetric matrix; if f is even, the last holds its entries twice."""
    size = len(matrix)
    twice = torch.cat((matrix, matrix), 1)
    return twice.as_strided((size // 2 + 1, size), (1, 2 * size + 1)).clone()


def unpack(diagonals: Float[Tensor, "diagonals f"]) -> Float[Tensor, "f f"]:
    """Return the whole matrix, symmetric to the bit."""
    size = diagonals.shape[1]
    twice = diagonals.new_zeros(size, 2 * size)
    view = twice.as_strided(diagonals.shape, (1, 2 * size + 1))
    view.copy_(diagonals)
    if size % 2 == 0:
        view[-1, size // 2 :] = 0
    half = twice[:, :size] + twice[:, size:]
    return half + half.T - torch.diag(half.diagonal())


def outer(vector: Float[Tensor, "f"]) -> Float[Tensor, "diagonals f"]:
    """Return `pack` of the vector's outer product with itself."""
    size = len(vector)
    around = torch.cat((vector, vector)).as_strided((size // 2 + 1, size), (1, 1))
    return around * vector


PENALTIES = tuple(10.0**-power for power in (-1, 0, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6))
"""Candidates for λ, relative to the mean scatter of a feature."""
_LIKELY_PENALTY = PENALTIES.index(1e-2)
"""The candidate that most streams of images have, or one of its neighbours."""
_TINY = 1e-12
_LEAST_REMAINDER = 0.02
"""Lower bound on 1 - h, below which rounding of the stored sums would dominate."""

Precision = Literal["float32", "int16"]
_STEPS = 32767
_BATCH = 4096


def sums(
    features: Float[Tensor, "n f"], y: Int[Tensor, "n"], way: int, precision: Precision = "float32"
) -> dict[str, Tensor]:
    """Return the sums that a stream task stores: about 2 f² bytes in float32, half of that in int16.

    The scatter is stored relative to the deviations of its features. Correlations have one scale, so the uniform steps
    of int16 suit all of them; half precision is coarsest for the features that are most alike.
    """
    size = features.shape[1]
    class_sums = torch.zeros(way, size, dtype=torch.float64)
    scatter = torch.zeros(size, size, dtype=torch.float64)
    # In batches, since all examples in double precision might not fit into memory.
    batches = list(zip(features.split(_BATCH), y.split(_BATCH), strict=True))
    for batch, classes in batches:
        class_sums.index_add_(0, classes, batch.double())
    mean = class_sums.sum(0) / len(y)
    for batch, _ in batches:
        centred = batch.double() - mean
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
    """Moments of the examples of one or more stream tasks, float64. Their classes follow one another in order."""

    scatter: Float[Tensor, "f f"]
    """Σ φφᵀ, about the mean of all."""
    mean: Float[Tensor, "f"]
    cross: Float[Tensor, "f classes"]
    """Σ φyᵀ, about the means."""
    counts: Float[Tensor, "classes"]

    @property
    def n(self) -> float:
        return float(self.counts.sum())


def moments(parts: Iterable[Mapping[str, Tensor]]) -> Moments:
    """Return the moments of one or more tasks. Pass the parts in a fixed order, because rounding depends on it."""
    parts = list(parts)
    if not parts:
        raise LearnerError("there are no stream tasks whose sums could be solved")
    packed = torch.zeros((), dtype=torch.float64)
    for part in parts:
        packed = packed + _scatter(part)
    class_sums = torch.cat([part["class_sums"].double() for part in parts])
    counts = torch.cat([part["counts"].double() for part in parts])
    task_sums = torch.stack([part["class_sums"].double().sum(0) for part in parts])
    n_task = torch.stack([part["counts"].double().sum() for part in parts])
    mean = task_sums.sum(0) / n_task.sum()
    between = (task_sums / n_task[:, None] - mean) * n_task[:, None].sqrt()
    return Moments(
        unpack(packed) + between.T @ between,
        mean,
        (class_sums - counts[:, None] * mean).T.contiguous(),
        counts,
    )


def without(total: Moments, part: Mapping[str, Tensor], first: int) -> Moments:
    """Subtract one part, whose classes begin at `first`, from the moments."""
    counts = part["counts"].double()
    task_sum, m = part["class_sums"].double().sum(0), counts.sum()
    n = total.n - m
    between = task_sum / m - total.mean
    within = unpack(_scatter(part))
    scatter = total.scatter - within - torch.outer(between, between) * (m * total.n / n)
    mean = (total.n * total.mean - task_sum) / n
    stay = torch.ones(len(total.counts), dtype=torch.bool)
    stay[first : first + len(counts)] = False
    left = total.counts[stay]
    return Moments(scatter, mean, total.cross[:, stay] + left * (total.mean - mean)[:, None], left)


@dataclass(frozen=True)
class Solution:
    """A ridge solution, float64: scores are `rows` φ + `bias`, `factor` is the lower Cholesky factor of Σ φφᵀ + λI."""

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
        """Return φᵀ(Σ φφᵀ + λI)⁻¹φ + 1/n: at most 1 for an example of the sums, more for inputs unlike them."""
        centred = (features.double() - self.mean).T
        half: Tensor = torch.linalg.solve_triangular(self.factor, centred, upper=False)
        return half.square().sum(0) + 1 / self.n

    def left_out(
        self, features: Float[Tensor, "n f"], y: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n"]]:
        """Return the scores and leverages that examples of the sums would have, had they not been among them."""
        hot = F.one_hot(y, len(self.bias)).double()
        leverage = self.leverage(features)
        remainder = (1 - leverage).clamp_min(_LEAST_REMAINDER)
        return hot - (hot - self.scores(features)) / remainder[:, None], leverage / remainder


def solve(total: Moments, penalty: float | None = None) -> Solution:
    """Solve with the given relative λ or, if None, with that of the highest marginal likelihood.

    Raise `LearnerError`.
    """
    if penalty is not None:
        return _solved(total, penalty, _factor(total, penalty))
    # Uphill from a likely candidate: the evidence has one peak, and each factor costs as much as all the rest.
    best = _weighed(total, _LIKELY_PENALTY)
    for step in (1, -1):
        moved = False
        while (following := best[1] + step) in range(len(PENALTIES)):
            candidate = _weighed(total, following)
            if candidate[0] <= best[0]:
                break
            best, moved = candidate, True
        if moved:
            break
    return _solved(total, PENALTIES[best[1]], best[2])


def _weighed(total: Moments, index: int) -> tuple[float, int, Tensor]:
    """Return the evidence of a candidate, its index and its factor."""
    factor = _factor(total, PENALTIES[index])
    return _evidence(total, PENALTIES[index], factor), index, factor


def _solved(total: Moments, penalty: float, factor: Tensor) -> Solution:
    rows = torch.cholesky_solve(total.cross, factor).T.contiguous()
    bias = total.counts / total.n - rows @ total.mean
    if not rows.isfinite().all():
        raise LearnerError("ridge regression failed: the features of these examples are not finite")
    return Solution(rows, bias, factor, total.mean, penalty, total.n)


def _factor(total: Moments, penalty: float) -> Tensor:
    """Return the Cholesky factor of Σ φφᵀ + λI; λ grows if rounding of the stored sums has left it without one."""
    scale = float(total.scatter.diagonal().mean()) + _TINY
    for _ in range(12):
        shifted = total.scatter.clone()
        shifted.diagonal().add_(penalty * scale)
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if not int(failed):
            return factor
        penalty *= 10
    raise LearnerError("ridge regression failed: the features of these examples are not finite")


def _evidence(total: Moments, penalty: float, factor: Tensor) -> float:
    """Return log p(Y | Φ, λ) at its best noise level, up to a constant: -K/2 (n log Σ residual + log |A| - f log λ)."""
    scale = float(total.scatter.diagonal().mean()) + _TINY
    half = torch.linalg.solve_triangular(factor, total.cross, upper=False)
    share = total.counts / total.n
    residual = float((total.n * share * (1 - share)).sum() - half.square().sum())
    determinant = 2 * float(factor.diagonal().log().sum())
    size = len(total.mean)
    fit = total.n * math.log(max(residual, _TINY))
    return -0.5 * len(share) * (fit + determinant - size * math.log(penalty * scale))


def _scatter(part: Mapping[str, Tensor]) -> Float[Tensor, "diagonals f"]:
    """Restore the packed scatter of a task about its own mean."""
    stored = part["scatter"]
    step = 1.0 if stored.is_floating_point() else 1 / _STEPS
    return outer(part["deviation"].double()).mul_(step).mul_(stored)
