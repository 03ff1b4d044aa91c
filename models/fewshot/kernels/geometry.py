"""Views of a feature space: how examples of a task are scaled before they are compared, by the support set alone.

Five views of every source of features: `unit` (on the sphere), `centred` (about the mean of the support set, then on
the sphere), `scaled` (each column by its deviation over the support set), `log` (the same after a signed logarithm,
for columns of heavy tails), `raw` (one common scale). Each comes as inner products and squared lengths, which need only
three products with the stored points: of the scaled columns, of the columns in their own scale, of the logarithms. A
column that is constant over the support set says nothing about it and is left out, in `unit` its mean stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

VIEWS = ("unit", "centred", "scaled", "log", "raw")
_BASES = 2
"""Coordinates as they are, and their signed logarithms."""
_TINY = 1e-20
_STEEPNESS = 3.0
"""Of the logarithm: log(1 + 3 |x| / mean |x|)."""
_FARTHEST = 1e4
"""Bound on coordinates of a query, in deviations: a farther one is moved to it."""


@dataclass(frozen=True)
class Scales:
    """Scales of the columns of a task. All sources lie side by side; the second axis is that of the bases."""

    size: Float[Tensor, "tasks sources"]
    """Largest absolute number of each source, so that no square overflows."""
    typical: Float[Tensor, "tasks columns"]
    mean: Float[Tensor, "tasks bases columns"]
    deviation: Float[Tensor, "tasks bases columns"]
    """0 in constant columns."""


@dataclass(frozen=True)
class Geometry:
    """Inner products of queries and points, and squared lengths, by view of each source, source by source."""

    inner: Float[Tensor, "tasks views query point"]
    query: Float[Tensor, "tasks views query"]
    point: Float[Tensor, "tasks views point"]

    def squared_distances(self) -> Float[Tensor, "tasks views query point"]:
        return (self.query[..., None] + self.point[:, :, None] - 2 * self.inner).clamp_min(0)


def scales_of(
    x: Float[Tensor, "tasks point columns"], mask: Bool[Tensor, "tasks point"], sources: Sequence[int]
) -> Scales:
    """Measure the scales of support sets; padding may hold anything."""
    x = x.masked_fill(~mask[..., None], 0)
    size = torch.stack([part.abs().amax((1, 2)) for part in x.split(list(sources), dim=2)], dim=1)
    size = size.clamp_min(1e-37)
    x = x / _spread(size, sources)[:, None]
    count = mask.sum(1).to(x)[:, None]
    typical = (x.abs().sum(1) / count).clamp_min(1e-12)
    means, deviations = [], []
    for base in (x, _logarithm(x, typical)):
        mean = base.sum(1) / count
        variance = ((base - mean[:, None]).square() * mask[..., None]).sum(1) / count
        square = base.square().sum(1) / count
        varies = variance > 1e-8 * square + _TINY
        deviations.append(torch.where(varies, (variance + 1e-4 * square).sqrt(), 0.0))
        means.append(mean)
    return Scales(size, typical, torch.stack(means, dim=1), torch.stack(deviations, dim=1))


def coordinates(
    scales: Scales, x: Float[Tensor, "tasks n columns"], sources: Sequence[int]
) -> Float[Tensor, "tasks bases n columns"]:
    """Return x in deviations from the mean, in both bases; 0 in constant columns. Far ones keep their direction."""
    x = x.double() / _spread(scales.size, sources)[:, None]
    both = torch.stack((x, _logarithm(x, scales.typical)), dim=1)
    inverse = torch.where(scales.deviation > 0, 1 / scales.deviation.clamp_min(_TINY), 0.0)
    found = (both - scales.mean[:, :, None]) * inverse[:, :, None]
    return found * (_FARTHEST / found.abs().amax(-1, keepdim=True).clamp_min(_FARTHEST))


def geometry(
    scales: Scales,
    query: Float[Tensor, "tasks bases query columns"],
    points: Float[Tensor, "tasks bases point columns"],
    present: Bool[Tensor, "tasks point"],
    sources: Sequence[int],
) -> Geometry:
    """Compare queries with the points of their tasks, both as `coordinates`. Points of padding are 0."""
    count = present.sum(1).to(query)[:, None]
    parts = []
    start = 0
    for width in sources:
        here = slice(start, start + width)
        start += width
        parts.append(
            _views(
                query[..., here],
                points[..., here],
                scales.mean[:, 0, here],
                scales.deviation[:, 0, here],
                count,
            )
        )
    inner, squares, lengths = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return Geometry(inner, squares, lengths)


def _views(
    query: Float[Tensor, "tasks bases query d"],
    points: Float[Tensor, "tasks bases point d"],
    mean: Float[Tensor, "tasks d"],
    deviation: Float[Tensor, "tasks d"],
    count: Float[Tensor, "tasks 1"],
) -> tuple[Tensor, Tensor, Tensor]:
    q, p = query[:, 0], points[:, 0]
    own_q, own_p = q * deviation[:, None], p * deviation[:, None]
    scaled = q @ p.mT
    own = own_q @ own_p.mT
    logarithmic = query[:, 1] @ points[:, 1].mT
    along_q, along_p = (own_q @ mean[..., None])[..., 0], (own_p @ mean[..., None])[..., 0]
    centre = mean.square().sum(1)[:, None]
    squares_q = [own_q.square().sum(-1), q.square().sum(-1), query[:, 1].square().sum(-1)]
    squares_p = [own_p.square().sum(-1), p.square().sum(-1), points[:, 1].square().sum(-1)]
    whole_q, whole_p = centre + 2 * along_q + squares_q[0], centre + 2 * along_p + squares_p[0]
    whole = centre[..., None] + along_q[..., None] + along_p[:, None] + own
    inner = [
        whole * (_root(whole_q)[..., None] * _root(whole_p)[:, None]),
        own * (_root(squares_q[0])[..., None] * _root(squares_p[0])[:, None]),
    ]
    lengths = [torch.ones_like(along_q)] * 2, [torch.ones_like(along_p)] * 2
    for product, square_q, square_p in zip(
        (scaled, logarithmic, own),
        (squares_q[1], squares_q[2], squares_q[0]),
        (squares_p[1], squares_p[2], squares_p[0]),
        strict=True,
    ):
        # The points have mean square 1.
        unit = count / square_p.sum(1, keepdim=True).clamp_min(_TINY)
        inner.append(product * unit[..., None])
        lengths[0].append(square_q * unit)
        lengths[1].append(square_p * unit)
    return torch.stack(inner, 1), torch.stack(lengths[0], 1), torch.stack(lengths[1], 1)


def _root(square: Float[Tensor, "tasks n"]) -> Float[Tensor, "tasks n"]:
    return square.clamp_min(_TINY).rsqrt()


def _logarithm(
    x: Float[Tensor, "tasks n columns"], typical: Float[Tensor, "tasks columns"]
) -> Float[Tensor, "tasks n columns"]:
    return x.sign() * (_STEEPNESS * x.abs() / typical[:, None]).log1p()


def _spread(size: Float[Tensor, "tasks sources"], sources: Sequence[int]) -> Float[Tensor, "tasks columns"]:
    return size.repeat_interleave(torch.tensor(list(sources), device=size.device), dim=1)
