"""Support sets around the experts: a canonical order, single tasks, part of a large set, a batch of weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.protocol import Support, TaskWeights

MOST_READ = 320
"""Examples that the mixer is shown."""


def in_order(support: Support) -> Support:
    """Put the examples in an order that depends on class and content, not on how they were sent; padding last."""
    assert support.targets is not None
    features = support.features.masked_fill(~support.mask[..., None], 0)
    direction = torch.arange(1, features.shape[-1] + 1, device=features.device).to(features).cos()
    size = features.abs().amax((1, 2), keepdim=True).clamp_min(1e-37)
    place = ((features / size) @ direction).masked_fill(~support.mask, torch.inf)
    order = place.argsort(dim=1, stable=True)
    key = support.class_key.gather(1, support.targets).masked_fill(
        ~support.mask, torch.iinfo(torch.int64).max
    )
    order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    index = order[..., None].expand_as(features)
    return replace(
        support,
        features=features.gather(1, index),
        targets=support.targets.gather(1, order),
        mask=support.mask.gather(1, order),
    )


def single_tasks(support: Support) -> list[Support]:
    """Cut a batch into its tasks, without padded examples."""
    assert support.targets is not None
    found = []
    for index in range(len(support.n_way)):
        one, mask = slice(index, index + 1), support.mask[index]
        found.append(
            Support(
                support.features[one][:, mask],
                support.targets[one][:, mask],
                support.mask[one][:, mask],
                support.n_way[one],
                support.class_key[one],
                support.seed[one],
            )
        )
    return found


def whole_classes(support: Support) -> Support:
    """Return whole classes of one task up to the number of examples that the mixer reads, chosen by their keys."""
    assert support.targets is not None
    way = int(support.n_way[0])
    shots = torch.bincount(support.targets[0], minlength=way)
    order = (support.class_key[0, :way] * 0x5851F42D4C957F2D).argsort()
    total = shots[order].cumsum(0)
    count = max(2, int((total <= MOST_READ).sum()))
    chosen = order[:count].sort().values
    number = torch.full((way,), -1, device=order.device)
    number[chosen] = torch.arange(count, device=order.device)
    renumbered = number[support.targets[0]]
    members = (renumbered >= 0).nonzero()[:, 0]
    # A class alone may be larger than that.
    members = members[:: max(1, -(-len(members) // (2 * MOST_READ)))]
    return Support.of(
        support.features[:, members],
        renumbered[members][None],
        support.n_way.new_tensor([count]),
        class_key=support.class_key[:, chosen],
        seed=support.seed,
    )


def joined(parts: list[TaskWeights]) -> TaskWeights:
    """Join the weights of single tasks to a batch, padding points."""
    most = max(int(part.n_points[0]) for part in parts if part.n_points is not None)

    def stack(name: str, group: str) -> Tensor:
        values = [getattr(part, group)[name] for part in parts]
        if group == "points":
            values = [F.pad(v, (0, 0) * (v.ndim - 2) + (0, most - v.shape[1])) for v in values]
        if group == "coefficients":
            values = [F.pad(v, (0, 0) * (v.ndim - 3) + (0, most - v.shape[2])) for v in values]
        return torch.cat(values)

    first = parts[0]
    groups = {
        group: {name: stack(name, group) for name in getattr(first, group)}
        for group in ("task", "rows", "points", "coefficients")
    }
    return TaskWeights(
        n_way=torch.cat([part.n_way for part in parts]),
        class_key=torch.cat([part.class_key for part in parts]),
        seed=torch.cat([part.seed for part in parts]),
        n_points=torch.cat([part.n_points for part in parts if part.n_points is not None]),
        **groups,
    )
