"""Order of the classes in methods of a fixed way.

It is that of the class keys (digests of the labels), independent of the order in which a client lists them, and answers
are the mean over turns of it: over all turns, every class is once at every place.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from models.protocol import Support, UnsupportedSupportError


def refuse_other_ways(support: Support, ways: int) -> None:
    """Raise `UnsupportedSupportError` unless every task of the batch has `ways` classes."""
    if support.class_key.shape[1] != ways or bool((support.n_way != ways).any()):
        raise UnsupportedSupportError(f"this learner takes {ways} classes, no more and no fewer")


def turns(class_key: Int[Tensor, "tasks way"], count: int) -> Int[Tensor, "tasks count way"]:
    """Return the class row at each place: rows in rising order of their keys, and turns of that order."""
    rising = class_key.argsort(-1)
    return torch.stack([rising.roll(turn, -1) for turn in range(count)], dim=1)
