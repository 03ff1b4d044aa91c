"""Which examples of a stream task are kept to tell how well it is answered, and not learned from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

SHARE, MOST = 0.1, 500
"""By default a tenth, and no more than this many."""


def held_out_counts(counts: Sequence[int], wanted: int | None = None) -> list[int]:
    """How many of each class: `wanted` together, in proportion, but each class keeps an example to learn from."""
    total = sum(counts)
    wanted = min(MOST, int(SHARE * total)) if wanted is None else min(wanted, total - len(counts))
    shares = [wanted * count / total for count in counts]
    held = [min(int(share), count - 1) for share, count in zip(shares, counts, strict=True)]
    # What rounding down has left over goes to those who lost most by it, then to whoever has enough.
    order = sorted(range(len(counts)), key=lambda index: (int(shares[index]) - shares[index], index))
    while (left := wanted - sum(held)) > 0:
        for index in [index for index in order if held[index] < counts[index] - 1][:left]:
            held[index] += 1
    return held


def split(
    labels: Int[Tensor, "n"], held: Sequence[int], seed: int
) -> tuple[Int[Tensor, "learned"], Int[Tensor, "held"]]:
    """Indices of examples to learn from and to keep, `held` of each class; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for label, count in enumerate(held):
        kept[order[labels[order] == label][:count]] = True
    return (~kept).nonzero()[:, 0], kept.nonzero()[:, 0]
