"""MNIST (LeCun, Cortes, Burges 1998) as one npz: 60,000 digits to learn from and 10,000 to be tested on.

`load` reads `train_image`, `train_label`, `test_image`, `test_label`, or x_train, y_train, x_test, y_test as Keras
names them; images are uint8 [n, 28, 28] with ink at 255.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data.dataset import DatasetError

CLASSES = 10
_NAMES = ("train_image", "train_label", "test_image", "test_label")
_KERAS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class Digits:
    """Pixels from 0 to 1."""

    train_x: Float[Tensor, "train 28 28"]
    train_y: Int[Tensor, "train"]
    test_x: Float[Tensor, "test 28 28"]
    test_y: Int[Tensor, "test"]

    def held_out(self, count: int) -> Digits:
        """Return the last `count` digits of the training set in the place of the test set, to make choices on."""
        if not 0 < count < len(self.train_y):
            raise DatasetError(f"{count} of {len(self.train_y)} training digits cannot be held out")
        return replace(
            self,
            train_x=self.train_x[:-count],
            train_y=self.train_y[:-count],
            test_x=self.train_x[-count:],
            test_y=self.train_y[-count:],
        )


def load(path: Path) -> Digits:
    """Load the data set. Raises `DatasetError`."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = _NAMES if _NAMES[0] in archive else _KERAS
            train_x, train_y, test_x, test_y = (archive[name] for name in names)
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise DatasetError(f"{path}: needs an npz with {', '.join(_NAMES)}: {error}") from error
    return Digits(*_part(path, "train", train_x, train_y), *_part(path, "test", test_x, test_y))


def _part(path: Path, name: str, images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DatasetError(
            f"{path}: {name} has images {images.dtype} {list(images.shape)} and labels {list(labels.shape)},"
            " not uint8 [n, 28, 28] and [n]"
        )
    found = torch.from_numpy(labels.astype(np.int64))
    if not len(found) or int(found.min()) < 0 or int(found.max()) >= CLASSES:
        raise DatasetError(f"{path}: {name} labels are not digits from 0 to 9")
    return torch.from_numpy(images).float() / 255, found
