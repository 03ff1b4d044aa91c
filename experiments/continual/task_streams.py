"""Streams of tasks: split-MNIST, two digits per task (1703.04200), permuted-MNIST (1312.6211), and split-CIFAR-80.

The last is split-CIFAR-100, ten classes per task (1703.04200), without the classes that our files hold only in part:
eight stream tasks with the training and test images of CIFAR-100, in the order of class names.
split-pairs is made of any labelled images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
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
_PADDING = 2
_MNIST_WAY = 2
_CIFAR_WAY, _MOST_CIFAR_TASKS = 10, 8


@dataclass(frozen=True)
class TaskStream:
    """Stream tasks of `way` classes each; `train` and `test` return the examples of one."""

    name: str
    tasks: int
    way: int
    shape: tuple[int, ...]
    pictures: bool
    """True if neighbouring pixels are related, so that inputs are treated as images."""
    train: Callable[[int], Examples]
    test: Callable[[int], Examples]
    most: int = 0
    """Tasks that `test` has examples of: those from `tasks` on are foreign to the stream."""

    def labels(self, task: int, scenario: Scenario) -> tuple[str, ...]:
        """Return the class labels of a stream task; in CL2 all tasks have the same."""
        first = 0 if scenario == "cl2" else task * self.way
        return tuple(str(first + index) for index in range(self.way))


def split_mnist(digits: Digits, tasks: int | None = None, seed: int = 0) -> TaskStream:
    """Return tasks of digits 0 and 1, then 2 and 3, …: at most five, the same for every seed."""
    tasks = 5 if tasks is None else tasks
    if not 1 <= tasks <= CLASSES // _MNIST_WAY:
        raise DatasetError(f"split-mnist has 1 to {CLASSES // _MNIST_WAY} stream tasks, not {tasks}")

    def examples(x: Tensor, y: Tensor, task: int) -> Examples:
        mine = y // _MNIST_WAY == task
        return x[mine], y[mine] % _MNIST_WAY

    return TaskStream(
        "split-mnist",
        tasks,
        _MNIST_WAY,
        (28, 28),
        True,
        lambda task: examples(digits.train_x, digits.train_y, task),
        lambda task: examples(digits.test_x, digits.test_y, task),
    )


def permuted_mnist(digits: Digits, tasks: int | None = None, seed: int = 0) -> TaskStream:
    """Return tasks of all digits, padded to 32 × 32, with pixels permuted in each task except the first."""
    tasks = 10 if tasks is None else tasks
    if tasks < 1:
        raise DatasetError(f"permuted-mnist has at least one stream task, not {tasks}")
    train, test = (F.pad(x, (_PADDING,) * 4) for x in (digits.train_x, digits.test_x))
    generator = torch.Generator().manual_seed(seed)
    pixels = train[0].numel()
    orders = [torch.arange(pixels)]
    orders += [torch.randperm(pixels, generator=generator) for _ in range(tasks - 1)]

    def permuted(x: Tensor, task: int) -> Tensor:
        return x.flatten(1)[:, orders[task]].view_as(x)

    return TaskStream(
        "permuted-mnist",
        tasks,
        CLASSES,
        (32, 32),
        False,
        lambda task: (permuted(train, task), digits.train_y),
        lambda task: (permuted(test, task), digits.test_y),
    )


def split_cifar(pictures: Pictures, tasks: int | None = None, seed: int = 0) -> TaskStream:
    """Return tasks of classes 0 to 9, then 10 to 19, …: at most eight, the same for every seed.

    Each channel is scaled by the mean and deviation of the first task's training images.
    """
    most = min(_MOST_CIFAR_TASKS, len(pictures.names) // _CIFAR_WAY)
    tasks = most if tasks is None else tasks
    if not 1 <= tasks <= most:
        raise DatasetError(f"split-cifar-80 has 1 to {most} stream tasks, not {tasks}")
    first = pictures.train_x[pictures.train_y < _CIFAR_WAY].float()
    mean = first.mean((0, 2, 3), keepdim=True)
    # A constant channel stays as it is.
    deviation = first.std((0, 2, 3), keepdim=True).clamp_min(1)

    def examples(x: Tensor, y: Tensor, task: int) -> Examples:
        mine = y // _CIFAR_WAY == task
        return (x[mine].float() - mean) / deviation, y[mine] % _CIFAR_WAY

    return TaskStream(
        "split-cifar-80",
        tasks,
        _CIFAR_WAY,
        tuple(pictures.train_x.shape[1:]),
        True,
        lambda task: examples(pictures.train_x, pictures.train_y, task),
        lambda task: examples(pictures.test_x, pictures.test_y, task),
    )


@dataclass(frozen=True)
class LabelledImages:
    """Grey images of any classes, with pixels from 0 to 1. Each seed divides them anew."""

    x: Float[Tensor, "n side side"]
    y: Int[Tensor, "n"]
    choosing: bool = False
    """If true, the test examples are left out, and as many of the others are measured."""

    def held_out(self, _count: int) -> LabelledImages:
        """Return the images to make choices on: no test example of any seed's division is used with that seed."""
        return replace(self, choosing=True)

    def divided(self, seed: int) -> tuple[Int[Tensor, "train"], Int[Tensor, "test"]]:
        """Return indices: of each class a fifth is measured."""
        generator = torch.Generator().manual_seed(seed)
        train, test = [], []
        for label in range(int(self.y.max()) + 1):
            rows = (self.y == label).nonzero()[:, 0]
            rows = rows[torch.randperm(len(rows), generator=generator)]
            fifth = len(rows) // 5
            measured = slice(fifth, 2 * fifth) if self.choosing else slice(0, fifth)
            test.append(rows[measured])
            train.append(rows[measured.stop :])
        return torch.cat(train), torch.cat(test)


def load_images(path: Path) -> LabelledImages:
    """Read `image`, uint8 [n, side, side], and `label` of an npz, or else `test_image` and `test_label`.

    Raise `DatasetError`.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            prefix = "" if "image" in archive else "test_"
            images, labels = archive[f"{prefix}image"], archive[f"{prefix}label"]
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DatasetError(f"{path}: needs an npz with image and label: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 3 or labels.shape != images.shape[:1] or not len(labels):
        raise DatasetError(f"{path}: needs uint8 images [n, side, side] and as many labels")
    _, y = np.unique(labels, return_inverse=True)
    return LabelledImages(torch.from_numpy(images).float() / 255, torch.from_numpy(y.astype(np.int64)))


def split_pairs(images: LabelledImages, tasks: int | None = None, seed: int = 0) -> TaskStream:
    """Return tasks of classes 0 and 1, then 2 and 3, …, at most five unless more are asked for."""
    most = (int(images.y.max()) + 1) // _MNIST_WAY
    tasks = min(most, 5) if tasks is None else tasks
    if not 1 <= tasks <= most:
        raise DatasetError(f"these classes make 1 to {most} stream tasks of two, not {tasks}")
    train, test = images.divided(seed)

    def examples(rows: Tensor, task: int) -> Examples:
        mine = rows[images.y[rows] // _MNIST_WAY == task]
        return images.x[mine], images.y[mine] % _MNIST_WAY

    return TaskStream(
        "split-pairs",
        tasks,
        _MNIST_WAY,
        tuple(images.x.shape[1:]),
        True,
        lambda task: examples(train, task),
        lambda task: examples(test, task),
        most,
    )


STREAMS_OF_TASKS: dict[str, Callable[[Any, int | None, int], TaskStream]] = {
    "split-mnist": split_mnist,
    "permuted-mnist": permuted_mnist,
    "split-cifar-80": split_cifar,
    "split-pairs": split_pairs,
}
Source = Digits | Pictures | LabelledImages
LOADERS: dict[str, Callable[[Path], Source]] = {
    "split-mnist": mnist.load,
    "permuted-mnist": mnist.load,
    "split-cifar-80": cifar100.load,
    "split-pairs": load_images,
}
"""Loaders of the data for `STREAMS_OF_TASKS`."""
