"""CIFAR-FS (Bertinetto et al. 2019, 1805.08136): CIFAR-100 in 64 / 16 / 20 classes of 32×32 colour pictures.

`load` reads a folder of npz files with a lossless mosaic per class: `blob` (bytes of encoded pictures, one after
another), `offset`, `count` (pictures of each class), `columns` (of a mosaic) and `class_name`. The training classes
are in cifarfs_train.npz, and as many more pictures of them as there are in cifarfs_train_rest.npz.
"""

from __future__ import annotations

import io
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from models.data.dataset import ClassDataset, DatasetError

SPLITS = {
    "train": ("cifarfs_train.npz", "cifarfs_train_rest.npz"),
    "validation": ("cifarfs_val.npz",),
    "test": ("cifarfs_test.npz",),
}
SIDE = 32


def load(folder: Path, split: str) -> ClassDataset:
    """Load pictures uint8 [n, 32, 32, 3], as published. Raises `DatasetError`."""
    if split not in SPLITS:
        raise DatasetError(f"CIFAR-FS has no split {split!r}; it has {', '.join(SPLITS)}")
    files = [folder / name for name in SPLITS[split] if (folder / name).is_file()]
    if not files:
        raise DatasetError(f"{folder}: holds no {SPLITS[split][0]}")
    parts = [_read(file) for file in files]
    names = parts[0][2]
    if any(other != names for _, _, other in parts):
        raise DatasetError(f"{folder}: the files of {split} name different classes")
    return ClassDataset(
        "cifar-fs",
        torch.from_numpy(np.concatenate([pictures for pictures, _, _ in parts])),
        torch.from_numpy(np.concatenate([labels for _, labels, _ in parts])),
        names,
        torch.zeros(len(names), dtype=torch.long),
    )


def _read(file: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Pictures, labels, class names."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            blob, offset, columns = archive["blob"], archive["offset"], int(archive["columns"])
            count, names = archive["count"], tuple(map(str, archive["class_name"]))
        sheets = [
            _tiles(blob[start:end].tobytes(), columns)[:n]
            for start, end, n in zip(offset[:-1], offset[1:], count, strict=True)
        ]
    except (OSError, KeyError, ValueError, BadZipFile, UnidentifiedImageError) as error:
        raise DatasetError(f"{file}: needs blob, offset, count, columns and class_name: {error}") from error
    return np.concatenate(sheets), np.repeat(np.arange(len(count)), count), names


def _tiles(mosaic: bytes, columns: int) -> np.ndarray:
    """Pictures of a mosaic, row by row."""
    sheet = np.asarray(Image.open(io.BytesIO(mosaic)).convert("RGB"))
    tiles = sheet.reshape(-1, SIDE, columns, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return tiles.reshape(-1, SIDE, SIDE, 3)
