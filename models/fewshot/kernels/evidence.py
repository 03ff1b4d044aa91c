"""What a support set says about its experts: relations within it, never the features themselves.

All of it is invariant to the order of examples, of classes and (by view) to rotations or scales of the space, so that
one network reads any space. Leave-one-out numbers count examples with company in their class only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.fewshot.kernels.experts import KERNEL_OF, Fit, Labels

SHARPNESSES = tuple(2.0**power for power in range(-1, 5))
PER_EXPERT = 1 + len(SHARPNESSES) + 1 + 1 + 5 + 1
PER_TASK = 7
_LEAST_SCALE = 0.02
_FARTHEST = 50.0
_WORST = 4.0


@dataclass(frozen=True)
class Evidence:
    """Numbers for the mixer, and the scale by which the scores of each expert are divided."""

    experts: Float[Tensor, "tasks experts numbers"]
    task: Float[Tensor, "tasks others"]
    scale: Float[Tensor, "tasks experts"]
    outside: Float[Tensor, "tasks experts point way"]
    """Leave-one-out scores, scaled."""


def scaled(scores: Tensor, scale: Tensor) -> Tensor:
    """Divide the scores of experts, [tasks, experts, n, way], by their scales."""
    return (scores / scale[..., None, None]).clamp(-_FARTHEST, _FARTHEST)


def evidence(
    kernels: Float[Tensor, "tasks kernels point point"],
    fitted: Fit,
    labels: Labels,
    columns: list[int],
) -> Evidence:
    """Gather the evidence of a batch of tasks; `columns` holds the length of each source of features."""
    accompanied = ((labels.company > 0) & labels.mask)[:, None, :]
    known = accompanied.sum(-1)
    scale = expert_scales(fitted, labels, accompanied)
    outside = scaled(fitted.outside, scale)
    nll, right = _leave_one_out(outside, labels)
    count = known.clamp_min(1).to(nll)
    nll = ((nll * accompanied[..., None]).sum(2) / count[..., None]).clamp(max=_WORST)
    accuracy = (right * accompanied).sum(2) / count
    any_known = (known > 0).to(nll)
    of_experts = torch.cat((accuracy[..., None], nll, nll.amin(-1, keepdim=True)), dim=-1)
    of_experts = of_experts * any_known[..., None]
    sources = len(columns)
    per_source = kernels.shape[1] // sources
    of_kernels = _of_kernels(kernels, labels)
    which = torch.tensor(
        [s * per_source + k for s in range(sources) for k in KERNEL_OF], device=kernels.device
    )
    flags = any_known[..., None].expand(-1, of_experts.shape[1], 1)
    numbers = torch.cat((of_experts, flags, of_kernels[:, which], scale.log()[..., None]), dim=-1)
    return Evidence(numbers, _of_task(labels, columns), scale, outside)


def expert_scales(
    fitted: Fit, labels: Labels, accompanied: Bool[Tensor, "tasks 1 point"]
) -> Float[Tensor, "tasks experts"]:
    """Return the root mean square of the leave-one-out scores, of the fit's own scores where there are none."""
    way = labels.n_way[:, None]
    known = accompanied.sum(-1)

    def root(scores: Tensor, mask: Tensor) -> Tensor:
        total = (scores.square() * mask[..., None]).sum((2, 3))
        return (total / (mask.sum(-1).clamp_min(1) * way)).sqrt()

    inside = root(fitted.inside, labels.mask[:, None])
    return torch.where(known > 0, root(fitted.outside, accompanied), inside).clamp_min(_LEAST_SCALE)


def _leave_one_out(outside: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
    """Return NLL in units of log way at each sharpness, and whether the best class is the right one."""
    padding = ~labels.classes[:, None, None]
    right = (outside.masked_fill(padding, -torch.inf).amax(-1) <= (outside * labels.hot[:, None]).sum(-1)).to(
        outside
    )
    own = (outside * labels.hot[:, None]).sum(-1)
    losses = [
        (outside * sharpness).masked_fill(padding, -torch.inf).logsumexp(-1) - own * sharpness
        for sharpness in SHARPNESSES
    ]
    return torch.stack(losses, dim=-1) / labels.n_way.log()[:, None, None, None], right


def _of_kernels(
    kernels: Float[Tensor, "tasks kernels point point"], labels: Labels
) -> Float[Tensor, "tasks kernels 5"]:
    """Mean and spread off the diagonal, classes apart in units of the spread, effective rank, its share of n."""
    mask = labels.mask.to(kernels)
    count = mask.sum(1)[:, None]
    pairs = mask[:, :, None] * mask[:, None] - torch.diag_embed(mask)
    same = labels.hot @ labels.hot.mT
    within, between = (same * pairs)[:, None], ((1 - same) * pairs)[:, None]
    pairs = pairs[:, None]

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum((2, 3)) / weights.sum((2, 3)).clamp_min(1)

    centre = mean(kernels, pairs)
    spread = mean((kernels - centre[..., None, None]).square(), pairs).sqrt()
    apart = (mean(kernels, within) - mean(kernels, between)) / (spread + 1e-4)
    apart = apart * (within.sum((2, 3)) > 0)
    trace = (kernels.diagonal(dim1=-2, dim2=-1) * mask[:, None]).sum(-1)
    rank = trace.square() / kernels.square().sum((2, 3)).clamp_min(1e-12)
    return torch.stack(
        (centre, spread.clamp_min(1e-4).log(), apart, rank.clamp_min(1).log(), rank / count), dim=-1
    )


def _of_task(labels: Labels, columns: list[int]) -> Float[Tensor, "tasks 7"]:
    """Return log way, mean log shot, mean 1/shot, log examples, log columns, further sources, unevenness."""
    shots, way = labels.shots.clamp_min(1), labels.n_way
    logs = shots.log() * labels.classes
    mean = logs.sum(1) / way
    rarity = (labels.classes / shots).sum(1) / way
    uneven = (((logs - mean[:, None]).square() * labels.classes).sum(1) / way).sqrt()
    fixed = torch.log(torch.tensor(float(min(columns)))).to(way), torch.tensor(len(columns) - 1.0).to(way)
    return torch.stack(
        (way.log(), mean, rarity, labels.shots.sum(1).log(), *(f.expand_as(way) for f in fixed), uneven), 1
    )
