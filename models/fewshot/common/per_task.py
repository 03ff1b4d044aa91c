"""Running of a function on each task of a batch: one task after another, or all at once.

If the weights of whole networks differ from task to task, a batch of them is a grouped convolution: on a CPU slower
than the tasks in turn (and, through second derivatives, far slower), on a GPU far faster than so many small kernels.
Both give the same numbers within rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.func import vmap

from models.fewshot.common.inner_loop import FastWeights
from models.protocol import Support


def at_once(device: torch.device) -> bool:
    """Return True if tasks run together on this device."""
    return device.type == "cuda"


def each_task(run: Callable[[FastWeights], FastWeights], tensors: FastWeights, together: bool) -> FastWeights:
    """Return the results of `run`, which takes and returns tensors of one task, with a leading axis of 1."""
    if together:
        made = vmap(run)({name: value[:, None] for name, value in tensors.items()})
        return {name: value[:, 0] for name, value in made.items()}
    count = len(next(iter(tensors.values())))
    parts = [run({name: value[i : i + 1] for name, value in tensors.items()}) for i in range(count)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Alike:
    """Tasks of a batch with equally many examples, without padding, and all marked or all not."""

    index: Int[Tensor, "alike"]
    support: Support
    marked: bool


def alike(support: Support, marked: Bool[Tensor, "tasks"]) -> Iterator[Alike]:
    """Yield every task of a batch once, in groups without padding, which would spoil measured statistics."""
    assert support.targets is not None
    sizes = torch.stack((support.mask.sum(1), marked.long()), dim=1)
    for size, mark in sizes.unique(dim=0).tolist():
        index = ((sizes[:, 0] == size) & (sizes[:, 1] == mark)).nonzero()[:, 0]
        real, shape = support.mask[index], (len(index), size)
        features, targets = support.features[index][real], support.targets[index][real]
        yield Alike(
            index,
            Support(
                features.view(*shape, *features.shape[1:]),
                targets.view(*shape, *targets.shape[1:]),
                real[real].view(shape),
                support.n_way[index],
                support.class_key[index],
                support.seed[index],
            ),
            bool(mark),
        )


def in_order(parts: list[tuple[Tensor, FastWeights]]) -> FastWeights:
    """Return the results of groups in the order of the batch."""
    place = torch.cat([index for index, _ in parts]).argsort()
    return {name: torch.cat([made[name] for _, made in parts])[place] for name in parts[0][1]}
