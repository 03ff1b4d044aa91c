"""The hypernetwork of `gaussian-process`: a set of examples becomes the hyper-parameters of a kernel.

It is invariant to the order of the examples and equivariant to that of the columns. Each column is described by the
mean over the examples of a network on (x, y, residual of a line left out of itself) and by correlations of y and of the
residual with fixed functions of x; the task as a whole by how likely its values are under each of some fixed kernels.
Two rounds of exchange between the columns and the whole follow. All of it is in double precision: rounding that
depended on the batch would reappear, magnified, where targets have no noise.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.fewshot.common.cholesky import safe_cholesky
from models.fewshot.common.gaussian_process import (
    PARTS,
    Examples,
    Kernel,
    factorised,
)

_READ = 128
"""Examples that the network on examples reads; the sums of correlations read them, too."""
_JUDGED = 48
"""Examples by which the fixed kernels are judged."""
_TARGETS = 8
"""Functions of one kernel that are read."""
_NOISES = (-14.0, -6.0, -1.5)
_LENGTHS = (0.2, 0.5, 1.2, 3.0)
"""Lengths of the fixed kernels over the square root of the number of columns."""
_ABSENT = -12.0
_SHAPES = 9
_FACTS = 9
_REACH = 4.0


class Dense(nn.Module):
    """Linear layers with SiLU between them, in double precision on parameters in single."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Float[Tensor, "*lead in"]) -> Float[Tensor, "*lead out"]:
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            x = F.linear(x if index == 0 else F.silu(x), layer.weight.double(), layer.bias.double())
        return x


class KernelNetwork(nn.Module):
    """Hyper-parameters from a set of examples."""

    def __init__(self, width: int) -> None:
        super().__init__()
        candidates = len(_NOISES) * (1 + len(_LENGTHS))
        self.example = Dense(4, width // 2, width // 2)
        self.whole = Dense(2 * candidates + _FACTS, width, width)
        self.column = Dense(width // 2 + 2 * _SHAPES + 4 + width, width, width)
        self.gathered = Dense(3 * width, width, width)
        self.again = Dense(2 * width, width, 2)
        self.parts = Dense(2 * width, width, PARTS)
        for last in (self.again.layers[-1], self.parts.layers[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(self, data: Examples) -> Kernel:
        """Return a kernel for each task; `data` is scaled to mean 0 and deviation 1."""
        data = Examples(data.x, data.y[..., :_TARGETS], data.mask)
        dim, targets = data.x.shape[2], data.y.shape[2]
        whole = self.whole(torch.cat((_judged(data), _facts(data)), dim=1))
        read = data.first(_READ)
        residual = _left_out(read)
        count = read.mask.sum(1)[:, None, None]
        described = []
        for target in range(targets):
            y, e = read.y[:, :, target], residual[:, :, target]
            each = torch.stack(
                (
                    _bounded(read.x),
                    _bounded(y)[..., None].expand_as(read.x),
                    _bounded(e)[..., None].expand_as(read.x),
                    (count.log() / 3).expand_as(read.x),
                ),
                dim=-1,
            )
            mean = (self.example(each) * read.mask[:, :, None, None]).sum(1) / count
            described.append(torch.cat((mean, _correlations(read, y), _correlations(read, e)), dim=-1))
        columns = torch.stack(described).mean(0)
        columns = torch.cat((columns, _moments(read)), dim=-1)
        spread = whole[:, None].expand(-1, dim, -1)
        columns = F.silu(self.column(torch.cat((columns, spread), dim=-1)))
        whole = F.silu(self.gathered(torch.cat((whole, columns.mean(1), columns.amax(1)), dim=1)))
        found = self.again(torch.cat((columns, whole[:, None].expand(-1, dim, -1)), dim=-1))
        parts = self.parts(torch.cat((whole, columns.mean(1)), dim=1))
        return _from_outputs(found.transpose(1, 2), parts, dim)


_PART_CENTRES = (-0.5, -1.5, 0.0, -1.5, -4.0)
_PART_REACHES = (10.0, 10.0, 4.0, 8.0, 12.0)


def _from_outputs(columns: Float[Tensor, "batch 2 dim"], parts: Float[Tensor, "batch 5"], dim: int) -> Kernel:
    """Return a kernel near a plain one for outputs of 0, within bounds for any."""
    plain = -math.log(dim)
    columns = plain + 10 * torch.tanh(columns / _REACH)
    centre, reach = (parts.new_tensor(values) for values in (_PART_CENTRES, _PART_REACHES))
    return Kernel(columns, centre + reach * torch.tanh(parts / _REACH))


def _bounded(values: Tensor) -> Tensor:
    return values.clamp(-6, 6)


@torch.no_grad()
def _judged(data: Examples) -> Float[Tensor, "batch facts"]:
    """Return how likely the first examples are under the fixed kernels: per example, and one against the other."""
    judged = data.first(_JUDGED)
    x, mask = judged.x, judged.mask
    batch, _, dim = x.shape
    products = x @ x.transpose(1, 2) / dim
    own = products.diagonal(dim1=1, dim2=2)
    squared = own[:, :, None] + own[:, None] - 2 * products
    lengths = x.new_tensor(_LENGTHS)[:, None, None]
    curves = (-0.5 * squared[:, None] / lengths.square()).exp()
    smooth = torch.cat((torch.zeros_like(curves[:, :1]), curves), dim=1) + products[:, None] + 1
    smooth = smooth * (mask[:, :, None] * mask[:, None])[:, None]
    diagonal = x.new_tensor(_NOISES)[:, None].exp() * mask[:, None] + (1 - mask[:, None])
    kernels = smooth[:, :, None] + diagonal[:, None].diag_embed()
    size = kernels.shape[1] * kernels.shape[2]
    factor = safe_cholesky(kernels.flatten(0, 2))
    # As `negative_evidence`, without α.
    whitened = torch.linalg.solve_triangular(factor, judged.repeated(size).y, upper=False)
    value = 0.5 * whitened.square().sum((1, 2)).view(batch, size) / judged.y.shape[2]
    value = value + factor.diagonal(dim1=1, dim2=2).log().sum(1).view(batch, size)
    per_example = value / mask.sum(1, keepdim=True)
    return torch.cat((torch.asinh(per_example), torch.softmax(-value, dim=1)), dim=1)


@torch.no_grad()
def _facts(data: Examples) -> Float[Tensor, "batch facts"]:
    """Return numbers of examples and columns, and the shape of the distribution of the targets."""
    count, dim = data.mask.sum(1), data.x.shape[2]
    y, n = data.y, data.mask.sum(1)[:, None]
    moments = [y.abs().sum(1) / n, y.pow(3).sum(1) / n, y.pow(4).sum(1) / n]
    squares = data.x.square().sum(2)
    far = squares.sum(1) / count / dim
    farther = (squares.square().sum(1) / count).sqrt() / dim
    return torch.stack(
        (
            count.log() / 3,
            torch.full_like(count, math.log(dim) / 2),
            (count / dim).log() / 3,
            1 / count,
            *(torch.asinh(moment.abs().mean(1)) for moment in moments),
            far.clamp(max=10),
            farther.clamp(max=10),
        ),
        dim=1,
    )


@torch.no_grad()
def _left_out(data: Examples) -> Float[Tensor, "batch n target"]:
    """Return the errors at each example of a ridge regression on the others, in closed form."""
    batch, _, dim = data.x.shape
    columns = data.x.new_full((batch, 2, dim), -math.log(dim))
    columns[:, 0] = 0.0
    parts = data.x.new_tensor([_ABSENT, _ABSENT, 0.0, 0.0, -3.0]).expand(batch, -1)
    factor = factorised(Kernel(columns, parts), data)
    inverse = torch.cholesky_inverse(factor)
    return (inverse @ data.y) / inverse.diagonal(dim1=1, dim2=2)[..., None] * data.mask[..., None]


@torch.no_grad()
def _correlations(data: Examples, values: Float[Tensor, "batch n"]) -> Float[Tensor, "batch dim shapes"]:
    """Return squared correlations of the values with fixed functions of each column."""
    x, mask = _bounded(data.x), data.mask[:, :, None]
    shapes = (
        x,
        x.square(),
        x.pow(3) / 4,
        *(wave(speed * x) for speed in (1.5, 3.0, 6.0) for wave in (torch.sin, torch.cos)),
    )
    features = torch.stack(shapes, dim=-1) * mask[..., None]
    count = data.mask.sum(1)[:, None, None]
    features = (features - (features.sum(1) / count)[:, None]) * mask[..., None]
    values = values - values.sum(1, keepdim=True) / data.mask.sum(1, keepdim=True)
    values = values * data.mask
    moment = torch.einsum("bn,bnds->bds", values, features)
    power = (values.square().sum(1)[:, None, None] * features.square().sum(1)).clamp_min(1e-12)
    return (moment.square() / power) * torch.tanh(count / 4)


@torch.no_grad()
def _moments(data: Examples) -> Float[Tensor, "batch dim 4"]:
    """Return the shape of the distribution of each column."""
    x, count = _bounded(data.x), data.mask.sum(1)[:, None]
    means = [power.sum(1) / count for power in (x.abs(), x.square(), x.pow(3).abs(), x.pow(4))]
    return torch.stack([torch.asinh(mean) for mean in means], dim=-1)
