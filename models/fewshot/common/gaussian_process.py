"""Gaussian processes with a kernel of four parts, batched over tasks, in double precision.

    k(x, x') = s_rbf exp(−r²/2) + s_mat (1 + √3 q) exp(−√3 q) + Σ_d v_d x_d x'_d + s_const
    r² = Σ_d w_d (x_d − x'_d)²,   q = √(c r²)

The second part is Matérn-3/2, for functions with kinks and steps; the last two are a line with an uncertain slope and
height, so that an answer far from all examples is as uncertain as slope, height and both variances leave it.

`refine` improves hyper-parameters by gradient steps on −log p(y) − log prior (MAP), the gradient in closed form:
∂/∂θ = ½ tr((t K⁻¹ − α αᵀ) ∂K/∂θ) with α = K⁻¹ y for t functions that share a kernel. The steps are Adam's with an ε of
some nats, which makes them continuous in the data: rounding cannot turn one.

A task with fewer points than the longest of its batch is padded: `mask` is 0 there, K the identity, y zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.fewshot.common.cholesky import safe_cholesky

RBF, MATERN, ROUGHNESS, CONSTANT, NOISE = range(5)
"""Places of the logarithms of s_rbf, s_mat, c, s_const and of the noise's variance in `Kernel.parts`."""
PARTS = 5
LEAST_NOISE = 1e-7
"""Least variance of the noise, where targets have variance 1: what keeps K invertible."""
_ROOT3 = math.sqrt(3.0)
_TINY = 1e-20


@dataclass(frozen=True)
class Kernel:
    """Logarithms of the hyper-parameters of a batch of kernels."""

    columns: Float[Tensor, "batch 2 dim"]
    """log w and log v of each input column."""
    parts: Float[Tensor, "batch 5"]

    @property
    def noise(self) -> Float[Tensor, "batch"]:
        """The variance of the noise."""
        return self.parts[:, NOISE].exp()

    @property
    def vector(self) -> Float[Tensor, "batch size"]:
        """All hyper-parameters of a kernel in a row."""
        return torch.cat((self.columns.flatten(1), self.parts), dim=1)

    @classmethod
    def of(cls, vector: Float[Tensor, "batch size"]) -> Kernel:
        """Invert `vector`."""
        columns = vector[:, :-PARTS]
        return cls(columns.reshape(len(vector), 2, -1), vector[:, -PARTS:])

    def covariance(
        self, a: Float[Tensor, "batch n dim"], b: Float[Tensor, "batch m dim"]
    ) -> Float[Tensor, "batch n m"]:
        """Return k between two sets of points, without noise."""
        weights, slopes = self.columns.exp().unbind(1)
        rbf, matern, roughness, constant, _ = self.parts.exp()[..., None, None].unbind(1)
        squared = _squared_distances(a, b, weights)
        q = (roughness * squared + _TINY).sqrt() * _ROOT3
        linear = (a * slopes[:, None]) @ b.transpose(1, 2)
        found: Tensor = rbf * (-0.5 * squared).exp() + matern * (1 + q) * (-q).exp() + linear + constant
        return found

    def variance(self, a: Float[Tensor, "batch n dim"]) -> Float[Tensor, "batch n"]:
        """Return k of each point with itself."""
        slopes, parts = self.columns[:, 1].exp(), self.parts.exp()
        level = parts[:, RBF] + parts[:, MATERN] + parts[:, CONSTANT]
        found: Tensor = level[:, None] + (a.square() * slopes[:, None]).sum(-1)
        return found


def _squared_distances(
    a: Float[Tensor, "batch n dim"], b: Float[Tensor, "batch m dim"], weights: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch n m"]:
    left = a * weights[:, None]
    ours, theirs = (left * a).sum(-1), (b * b * weights[:, None]).sum(-1)
    return (ours[:, :, None] + theirs[:, None] - 2 * left @ b.transpose(1, 2)).clamp_min(0)


@dataclass(frozen=True)
class Examples:
    """Scaled examples of a batch of tasks; padding is zero."""

    x: Float[Tensor, "batch n dim"]
    y: Float[Tensor, "batch n target"]
    mask: Float[Tensor, "batch n"]

    def first(self, count: int) -> Examples:
        """Return the first examples of each task."""
        return Examples(self.x[:, :count], self.y[:, :count], self.mask[:, :count])

    def repeated(self, times: int) -> Examples:
        """Return every task `times` times in a row."""
        return Examples(
            self.x.repeat_interleave(times, 0),
            self.y.repeat_interleave(times, 0),
            self.mask.repeat_interleave(times, 0),
        )


def factorised(kernel: Kernel, data: Examples) -> Float[Tensor, "batch n n"]:
    """Return the lower Cholesky factor of K with noise, the identity in the padding."""
    covariance = kernel.covariance(data.x, data.x) * data.mask[:, :, None] * data.mask[:, None]
    diagonal = kernel.noise[:, None] * data.mask + (1 - data.mask)
    return safe_cholesky(covariance + diagonal.diag_embed())


def negative_evidence(
    factor: Float[Tensor, "batch n n"], data: Examples
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch n target"]]:
    """Return −log p(y) in nats without its constant, and α = K⁻¹ y."""
    alpha = torch.cholesky_solve(data.y, factor)
    logarithms = factor.diagonal(dim1=1, dim2=2).log().sum(1) * data.y.shape[-1]
    return 0.5 * (alpha * data.y).sum((1, 2)) + logarithms, alpha


def posterior(
    kernel: Kernel,
    points: Float[Tensor, "batch n dim"],
    alpha: Float[Tensor, "batch n target"],
    factor: Float[Tensor, "batch n n"],
    mask: Float[Tensor, "batch n"],
    query: Float[Tensor, "batch m dim"],
) -> tuple[Float[Tensor, "batch m target"], Float[Tensor, "batch m"]]:
    """Return mean and variance of the functions at queries, without noise."""
    cross = kernel.covariance(points, query) * mask[:, :, None]
    whitened = torch.linalg.solve_triangular(factor, cross, upper=False)
    variance = kernel.variance(query) - whitened.square().sum(1)
    return cross.transpose(1, 2) @ alpha, variance.clamp_min(0)


def gradient(kernel: Kernel, data: Examples) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch size"]]:
    """Return −log p(y) in nats without its constant, and its gradient by `Kernel.vector`."""
    weights, slopes = kernel.columns.exp().unbind(1)
    parts = kernel.parts.exp()
    rbf, matern, roughness, constant, noise = parts[..., None, None].unbind(1)
    x, both = data.x, data.mask[:, :, None] * data.mask[:, None]
    squared = _squared_distances(x, x, weights)
    q = (roughness * squared).sqrt() * _ROOT3
    decay = matern * (-q).exp()
    smooth, rough = rbf * (-0.5 * squared).exp(), (1 + q) * decay
    linear = (x * slopes[:, None]) @ x.transpose(1, 2)
    diagonal = noise[:, 0] * data.mask + (1 - data.mask)
    factor = safe_cholesky((smooth + rough + linear + constant) * both + diagonal.diag_embed())
    value, alpha = negative_evidence(factor, data)
    pull = data.y.shape[-1] * torch.cholesky_inverse(factor) - alpha @ alpha.transpose(1, 2)
    pull = 0.5 * pull * both
    # ∂K/∂r² of both parts, negated; those of w and c follow from it.
    steep = 1.5 * roughness * decay
    bend = pull * (0.5 * smooth + steep)
    by_weight = weights * 2 * (x * (bend @ x) - bend.sum(2)[..., None] * x.square()).sum(1)
    by_slope = slopes * (x * (pull @ x)).sum(1)
    by_part = (
        (pull * smooth).sum((1, 2)),
        (pull * rough).sum((1, 2)),
        -(pull * steep * squared).sum((1, 2)),
        (pull * constant).sum((1, 2)),
        (pull.diagonal(dim1=1, dim2=2)).sum(1) * parts[:, NOISE],
    )
    return value, torch.cat((by_weight, by_slope, torch.stack(by_part, dim=1)), dim=1)


@dataclass(frozen=True)
class Steps:
    """Settings of the refinement."""

    counts: Int[Tensor, "batch"]
    """Steps of each task."""
    rate: float
    """Length of the first steps in a logarithm; it falls to a tenth (cosine)."""
    prior_deviation: float
    """Deviation of the prior of every logarithm, whose mean is the start."""


_EPSILON = 0.3
"""Gradients below this many nats make proportional steps."""
_MOMENTUM, _SECOND = 0.8, 0.9
_LOWEST, _HIGHEST = -30.0, 12.0


def refine(start: Kernel, data: Examples, steps: Steps, centre: Kernel | None = None) -> Kernel:
    """Return hyper-parameters of a higher posterior density: the best that the steps have visited.

    `centre` is the mean of the prior, if it is not the start.
    """
    theta = best = start.vector
    mean = theta if centre is None else centre.vector
    precision = 1 / steps.prior_deviation**2
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    lowest = theta.new_full((len(theta),), torch.inf)
    low = theta.new_full((theta.shape[1],), _LOWEST)
    low[-1] = math.log(LEAST_NOISE)
    counts, most = steps.counts.to(theta), int(steps.counts.max())
    for step in range(most + 1):
        value, slope = gradient(Kernel.of(theta), data)
        away = theta - mean
        value, slope = value + 0.5 * precision * away.square().sum(1), slope + precision * away
        better = value < lowest
        lowest, best = torch.where(better, value, lowest), torch.where(better[:, None], theta, best)
        if step == most:
            break
        first = _MOMENTUM * first + (1 - _MOMENTUM) * slope
        second = _SECOND * second + (1 - _SECOND) * slope.square()
        unbiased = first / (1 - _MOMENTUM ** (step + 1))
        size = (second / (1 - _SECOND ** (step + 1))).sqrt()
        share = (step / counts.clamp_min(1)).clamp(max=1)
        rate = steps.rate * (0.1 + 0.45 * (1 + torch.cos(math.pi * share))) * (step < counts)
        theta = theta - rate[:, None] * unbiased / (size + _EPSILON)
        theta = torch.maximum(theta.clamp(max=_HIGHEST), low)
    return Kernel.of(best)
