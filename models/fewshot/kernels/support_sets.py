"""Support sets around the experts: a canonical order, single tasks, part of a large set, a batch of weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.protocol import Support, TaskWeights

MOST_READ = 320
"""Examples that the mixer is shown."""
MOST_POINTS = 1_500
"""Points that experts are fitted to: time grows with the cube of their number, memory with the square."""
_MANY = 10
"""Points of a class from which on some of its examples stand for the others; of fewer points each is a mean."""


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
    part = Support.of(
        support.features[:, members],
        renumbered[members][None],
        support.n_way.new_tensor([count]),
        class_key=support.class_key[:, chosen],
        seed=support.seed,
    )
    # A class alone may be larger than that.
    return thinned(part, 2 * MOST_READ)


def thinned(support: Support, most: int) -> Support:
    """Return one task, in order, with at most `most` points, or one for each class; it stays as it is if it has them.

    Classes share the points evenly. A class with more examples is cut into as many groups along the order, of which the
    first example stands for the group, or the mean if the class has few points.
    """
    assert support.targets is not None
    targets, way = support.targets[0], int(support.n_way[0])
    if len(targets) <= most:
        return support
    quota = max(1, most // way)
    shots = torch.bincount(targets, minlength=way)
    # Examples of a class lie together.
    begins = torch.zeros_like(targets)
    begins[1:] = (targets[1:] != targets[:-1]).cumsum(0)
    first = torch.searchsorted(begins, begins)
    rank, size = torch.arange(len(targets), device=targets.device) - first, shots[targets]
    group = torch.where(size > quota, rank * quota // size, rank)
    starts = torch.ones_like(targets, dtype=torch.bool)
    starts[1:] = (group[1:] != group[:-1]) | (targets[1:] != targets[:-1])
    kept = starts.nonzero()[:, 0]
    features = support.features[0]
    if quota < _MANY:
        number = starts.cumsum(0) - 1
        flat = features.flatten(1).double()
        sums = flat.new_zeros(len(kept), flat.shape[1]).index_add_(0, number, flat)
        means = sums / torch.bincount(number)[:, None]
        features = means.to(features).view(len(kept), *features.shape[1:])
    else:
        features = features[kept]
    return replace(
        support,
        features=features[None],
        targets=targets[kept][None],
        mask=support.mask[:, kept],
    )


def sliced(support: Support, start: int, stop: int) -> Support:
    """Return some tasks of a batch."""
    assert support.targets is not None
    some = slice(start, stop)
    return Support(
        support.features[some],
        support.targets[some],
        support.mask[some],
        support.n_way[some],
        support.class_key[some],
        support.seed[some],
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
