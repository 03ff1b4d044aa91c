"""Stream tasks of Gaussian classes, for tests of closed forms."""

import torch
from torch import Tensor

DIM = 8


def way(task: int) -> int:
    return 2 + task % 2


def examples(task: int, seed: int = 0, shots: int = 30) -> tuple[Tensor, Tensor]:
    """Return equally many examples of every class; another seed draws others of the same classes."""
    means = 2.5 * torch.randn(way(task), DIM, generator=torch.Generator().manual_seed(task))
    y = torch.arange(way(task)).repeat(shots)
    drawn = torch.Generator().manual_seed(1000 + 100 * seed + task)
    return means[y] + torch.randn(len(y), DIM, generator=drawn), y


def labels(task: int) -> tuple[str, ...]:
    return tuple(f"{task}/{index}" for index in range(way(task)))
