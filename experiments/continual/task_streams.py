"""Streams of tasks: split-MNIST, two digits a task (1703.04200), permuted-MNIST (1312.6211), and split-CIFAR-80.

The last is split-CIFAR-100, ten classes a task (1703.04200), without the classes that our files hold in part: eight
stream tasks, with the training and test pictures of CIFAR-100, in the order of the classes' names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from models.continual.stream_config import Scenario
from models.data import cifar100, mnist
from models.data.cifar100 import Pictures
from models.data.dataset import DatasetError
from models.data.mnist import CLASSES, Digits

Examples = tuple[Float[Tensor, "n *pixels"], Int[Tensor, "n"]]
_PAD = 2
_PAIR = 2
_TEN, _MOST_TENS = 10, 8


@dataclass(frozen=True)
class TaskStream:
    """Stream tasks of `way` classes each; `train` and `test` make the examples of one."""

    name: str
    tasks: int
    way: int
    shape: tuple[int, ...]
    pictures: bool
    """Whether neighbouring pixels belong together."""
    train: Callable[[int], Examples]
    test: Callable[[int], Examples]

    def labels(self, task: int, scenario: Scenario) -> tuple[str, ...]:
        """Of the classes: the same ones for all stream tasks in CL2."""
        first = 0 if scenario == "cl2" else task * self.way
        return tuple(str(first + index) for index in range(self.way))


def split_mnist(digits: Digits, tasks: int | None = None, seed: int = 0) -> TaskStream:
    """Digits 0 and 1, then 2 and 3, …: five stream tasks at most, the same for every seed."""
    tasks = 5 if tasks is None else tasks
    if not 1 <= tasks <= CLASSES // _PAIR:
        raise DatasetError(f"split-mnist has 1 to {CLASSES // _PAIR} stream tasks, not {tasks}")

    def of(x: Tensor, y: Tensor, task: int) -> Examples:
        mine = y // _PAIR == task
        return x[mine], y[mine] % _PAIR

    return TaskStream(
        "split-mnist",
        tasks,
        _PAIR,
        (28, 28),
        True,
        lambda task: of(digits.train_x, digits.train_y, task),
        lambda task: of(digits.test_x, digits.test_y, task),
    )


def permuted_mnist(digits: Digits, tasks: int | None = None, seed: int = 0) -> TaskStream:
    """All digits, padded to 32 × 32, their pixels in an order of each stream task; the first keeps its order."""
    tasks = 10 if tasks is None else tasks
    if tasks < 1:
        raise DatasetError(f"permuted-mnist has at least one stream task, not {tasks}")
    train, test = (F.pad(x, (_PAD,) * 4) for x in (digits.train_x, digits.test_x))
    generator = torch.Generator().manual_seed(seed)
    pixels = train[0].numel()
    orders = [torch.arange(pixels)]
    orders += [torch.randperm(pixels, generator=generator) for _ in range(tasks - 1)]

    def of(x: Tensor, task: int) -> Tensor:
        return x.flatten(1)[:, orders[task]].view_as(x)

    return TaskStream(
        "permuted-mnist",
        tasks,
        CLASSES,
        (32, 32),
        False,
        lambda task: (of(train, task), digits.train_y),
        lambda task: (of(test, task), digits.test_y),
    )


def split_cifar(pictures: Pictures, tasks: int | None = None, seed: int = 0) -> TaskStream:
    """Classes 0 to 9, then 10 to 19, …: eight stream tasks at most, the same for every seed. Each channel is scaled
    by mean and deviation of the first stream task's training pictures."""
    most = min(_MOST_TENS, len(pictures.names) // _TEN)
    tasks = most if tasks is None else tasks
    if not 1 <= tasks <= most:
        raise DatasetError(f"split-cifar-80 has 1 to {most} stream tasks, not {tasks}")
    first = pictures.train_x[pictures.train_y < _TEN].float()
    mean = first.mean((0, 2, 3), keepdim=True)
    # A channel of one value stays as it is.
    deviation = first.std((0, 2, 3), keepdim=True).clamp_min(1)

    def of(x: Tensor, y: Tensor, task: int) -> Examples:
        mine = y // _TEN == task
        return (x[mine].float() - mean) / deviation, y[mine] % _TEN

    return TaskStream(
        "split-cifar-80",
        tasks,
        _TEN,
        tuple(pictures.train_x.shape[1:]),
        True,
        lambda task: of(pictures.train_x, pictures.train_y, task),
        lambda task: of(pictures.test_x, pictures.test_y, task),
    )


STREAMS_OF_TASKS: dict[str, Callable[[Any, int | None, int], TaskStream]] = {
    "split-mnist": split_mnist,
    "permuted-mnist": permuted_mnist,
    "split-cifar-80": split_cifar,
}
Source = Digits | Pictures
LOADERS: dict[str, Callable[[Path], Source]] = {
    "split-mnist": mnist.load,
    "permuted-mnist": mnist.load,
    "split-cifar-80": cifar100.load,
}
"""What `STREAMS_OF_TASKS` are made of."""
