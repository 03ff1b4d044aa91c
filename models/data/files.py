"""Data sets of a user's own: a folder of class folders, or an npz of labelled arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.data.dataset import ClassDataset, DatasetError
from models.inputs import ImageBytes, ImageInput, InputError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"})
_STORED_SIDE = 56


def load(path: Path, split: str | None = None) -> ClassDataset:
    """A folder `path/<class>/<picture>`, or an npz. Raises `DatasetError` naming the file at fault."""
    if path.is_dir():
        return from_folder(path)
    if path.suffix == ".npz":
        return from_npz(path, split)
    raise DatasetError(f"{path}: neither a folder of class folders nor an npz")


def from_folder(path: Path) -> ClassDataset:
    """One class per folder, in the order of names; pictures of any size become ink at once."""
    spec = ImageInput(size=_STORED_SIDE)
    pictures: list[np.ndarray] = []
    labels: list[int] = []
    names: list[str] = []
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES)
        for file in files:
            try:
                pictures.append(spec.decode(ImageBytes(file.read_bytes()))[0])
            except InputError as error:
                raise DatasetError(f"{file}: {error.detail}") from error
        if files:
            labels += [len(names)] * len(files)
            names.append(folder.name)
    if len(names) < 2:
        raise DatasetError(f"{path}: {len(names)} class folders with pictures; at least 2 are needed")
    stack = torch.from_numpy(np.stack(pictures)).mul(255).round().byte()
    return ClassDataset(path.name, stack, torch.tensor(labels), tuple(names), _one_domain(names))


def from_npz(path: Path, split: str | None = None) -> ClassDataset:
    """Keys `image` (uint8), `x` or `embedding` (floats) with `label`, each after `<split>_` where one is named."""
    prefix = f"{split}_" if split else ""
    with np.load(path, allow_pickle=False) as archive:
        found = [key for key in ("image", "x", "embedding") if prefix + key in archive.files]
        if not found or f"{prefix}label" not in archive.files:
            raise DatasetError(
                f"{path}: needs {prefix}label and one of {prefix}image, {prefix}x, {prefix}embedding; "
                f"has {', '.join(archive.files)}"
            )
        values, labels = archive[prefix + found[0]], archive[f"{prefix}label"].astype(np.int64)
        given = [str(name) for name in archive["class_name"]] if "class_name" in archive.files else None
    present, labels = np.unique(labels, return_inverse=True)
    names = [given[index] if given else str(index) for index in present]
    inputs = torch.from_numpy(values)
    if inputs.dtype != torch.uint8:
        inputs = inputs.float()
        if not bool(torch.isfinite(inputs).all()):
            raise DatasetError(f"{path}: {prefix}{found[0]} holds values that are not finite")
    return ClassDataset(path.name, inputs, torch.from_numpy(labels), tuple(names), _one_domain(names))


def _one_domain(names: list[str]) -> torch.Tensor:
    return torch.zeros(len(names), dtype=torch.long)


def split_classes(dataset: ClassDataset, share: float, seed: int) -> tuple[ClassDataset, ClassDataset]:
    """Disjoint classes for training and validation."""
    count = len(dataset.class_names)
    held_out = max(3, round(share * count))
    if count - held_out < 3:
        raise DatasetError(f"{dataset.source}: {count} classes are too few to train and validate on")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return dataset.select(sorted(order[held_out:])), dataset.select(sorted(order[:held_out]))
