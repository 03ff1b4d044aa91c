"""CIFAR-100 (Krizhevsky 2009) from the files of CIFAR-FS, in its own training and test pictures.

Of the files' 100 classes those are taken of which all 600 pictures are there, 500 to learn from and 100 to be tested
on as `from_cifar_test` says, the training and test classes of CIFAR-FS: of these 84 the first 80 in the order of names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from models.data import cifarfs
from models.data.dataset import DatasetError

_SPLITS = ("train", "test")
_TRAIN, _TEST, _CLASSES = 500, 100, 80


@dataclass(frozen=True)
class Pictures:
    """Labels index `names`; in each part pictures are in the order of the files."""

    train_x: UInt8[Tensor, "train 3 32 32"]
    train_y: Int[Tensor, "train"]
    test_x: UInt8[Tensor, "test 3 32 32"]
    test_y: Int[Tensor, "test"]
    names: tuple[str, ...]

    def held_out(self, count: int) -> Pictures:
        """Return `count` training pictures in the place of the test pictures, to make choices on: the last ones of each
        class, equally many of all classes."""
        each = count // len(self.names)
        if not 0 < each < int(torch.bincount(self.train_y).min()):
            raise DatasetError(f"{count} of {len(self.train_y)} training pictures cannot be held out")
        # How many of its class come at or after each picture.
        after = torch.zeros_like(self.train_y)
        for label in range(len(self.names)):
            mine = self.train_y == label
            after[mine] = torch.arange(int(mine.sum()), 0, -1)
        last = after <= each
        return replace(
            self,
            train_x=self.train_x[~last],
            train_y=self.train_y[~last],
            test_x=self.train_x[last],
            test_y=self.train_y[last],
        )


def load(folder: Path) -> Pictures:
    """Load the data set. Raises `DatasetError`."""
    parts = [cifarfs.load(folder, split) for split in _SPLITS]
    of_test = torch.cat(
        [_of_test(folder, split, len(part)) for split, part in zip(_SPLITS, parts, strict=True)]
    )
    names = np.array([name for part in parts for name in part.class_names])
    labels = torch.cat((parts[0].labels, parts[1].labels + len(parts[0].class_names)))
    counts = [torch.bincount(labels[of_test == flag], minlength=len(names)) for flag in (False, True)]
    whole = torch.nonzero((counts[0] == _TRAIN) & (counts[1] == _TEST))[:, 0].numpy()
    if not len(whole):
        raise DatasetError(
            f"{folder}: no class has {_TRAIN} training and {_TEST} test pictures of CIFAR-100; "
            f"{cifarfs.SPLITS['train'][1]} belongs there too"
        )
    order = whole[np.argsort(names[whole])][:_CLASSES]
    number = torch.full((len(names),), -1)
    number[order] = torch.arange(len(order))
    y = number[labels]
    x = torch.cat([part.inputs for part in parts]).permute(0, 3, 1, 2)
    train, test = (y >= 0) & ~of_test, (y >= 0) & of_test
    return Pictures(x[train], y[train], x[test], y[test], tuple(map(str, names[order])))


def _of_test(folder: Path, split: str, count: int) -> Tensor:
    """Mark the pictures that are in CIFAR-100's test set."""
    files = [folder / name for name in cifarfs.SPLITS[split] if (folder / name).is_file()]
    found = []
    try:
        for file in files:
            with np.load(file, allow_pickle=False) as archive:
                found.append(archive["from_cifar_test"])
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{folder}: the files of {split} need from_cifar_test: {error}") from error
    flags = torch.from_numpy(np.concatenate(found).astype(bool))
    if len(flags) != count:
        raise DatasetError(f"{folder}: from_cifar_test of {split} has {len(flags)} flags, not {count}")
    return flags
