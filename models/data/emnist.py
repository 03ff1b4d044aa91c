"""EMNIST ByClass (Cohen et al. 2017) as the Omniglot→EMNIST benchmark splits it: 62 classes by their index.

Even indices validate, odd ones test, so upper and lower case of a letter fall into the same split. `load` reads
an npz with `image` uint8 [n, 28, 28] and `label` (0 to 9 digits, then upper case, then lower case).
"""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import torch

from models.data.dataset import ClassDataset, DatasetError

CLASSES = string.digits + string.ascii_uppercase + string.ascii_lowercase
SPLITS = ("validation", "test")
_SAME = str.maketrans("l", "1")


def load(path: Path, split: str) -> ClassDataset:
    """Load pictures as the file has them; polarity does not matter to `models.inputs.ink`. Raises `DatasetError`."""
    if split not in SPLITS:
        raise DatasetError(f"EMNIST has no split {split!r}; it has {', '.join(SPLITS)}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            pictures, labels = archive["image"], archive["label"].astype(np.int64)
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f"{path}: needs an npz with image and label: {error}") from error
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (28, 28):
        raise DatasetError(f"{path}: image is {pictures.dtype} {list(pictures.shape)}, not uint8 [n, 28, 28]")
    if len(labels) != len(pictures) or set(np.unique(labels)) != set(range(len(CLASSES))):
        raise DatasetError(f"{path}: label does not name each of the {len(CLASSES)} classes")
    domains = torch.zeros(len(CLASSES), dtype=torch.long)
    whole = ClassDataset(
        "emnist", torch.from_numpy(pictures), torch.from_numpy(labels), tuple(CLASSES), domains
    )
    return whole.select(range(SPLITS.index(split), len(CLASSES), 2))


def merged(class_name: str) -> str:
    """Return one name for characters of the same shape: upper and lower case, and l and 1."""
    return class_name.translate(_SAME).upper()
