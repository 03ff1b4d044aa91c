"""Feature spaces to learn a classifier's hypernetwork on: many small data sets of vectors, each with its own geometry.

A folder holds one npz per space: `train__NAME.npz` and `validation__NAME.npz` with `label` [n] and the sources of
features `source_0`, `source_1`, … [n, d]. `tools/feature_spaces.py` makes such a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data.dataset import DatasetError
from models.protocol import FOREIGN

Split = Literal["train", "validation"]
_SHOTS = (1, 1, 2, 3, 5, 5, 10, 20)
_MOST_WAYS, _MOST_EXAMPLES = 60, 300
_QUERIES, _PER_CLASS, _FOREIGN = 60, 8, 24
_SMALLEST = 3
_ONE_SOURCE, _ALL_CLASSES, _UNEVEN = 0.4, 0.25, 0.3
"""Shares of batches: of one source where there are several, without foreign classes, of uneven shots."""


@dataclass(frozen=True)
class Space:
    """One space; classes of fewer than three examples are left out."""

    name: str
    sources: tuple[Float[np.ndarray, "n d"], ...]
    members: tuple[Int[np.ndarray, "m"], ...]


@dataclass(frozen=True)
class SpaceTasks:
    """A batch of tasks of one space with the same shots; queries of foreign classes have target `FOREIGN`."""

    support: Float[Tensor, "tasks support d"]
    support_y: Int[Tensor, "tasks support"]
    query: Float[Tensor, "tasks query d"]
    query_y: Int[Tensor, "tasks query"]
    sources: tuple[int, ...]


def load(folder: Path, split: Split) -> list[Space]:
    """Read the spaces of a folder in the order of their names. Raises `DatasetError`."""
    found = []
    for path in sorted(folder.glob(f"{split}__*.npz")):
        with np.load(path, allow_pickle=False) as archive:
            names = sorted(name for name in archive.files if name.startswith("source_"))
            if "label" not in archive.files or not names:
                raise DatasetError(f"{path}: a space holds `label` and `source_0`, `source_1`, …")
            label = archive["label"]
            sources = tuple(archive[name].astype(np.float32) for name in names)
        if any(len(source) != len(label) for source in sources):
            raise DatasetError(f"{path}: labels and sources differ in length")
        members = [np.flatnonzero(label == value) for value in np.unique(label)]
        kept = tuple(member for member in members if len(member) >= _SMALLEST)
        if len(kept) < 2:
            raise DatasetError(f"{path}: fewer than two classes of {_SMALLEST} examples")
        found.append(Space(path.stem.partition("__")[2], sources, kept))
    if not found:
        raise DatasetError(f"{folder} holds no spaces: no file {split}__NAME.npz")
    return found


def draw(space: Space, tasks: int, seed: tuple[int, ...]) -> SpaceTasks:
    """Draw tasks of a common way and shots, both at random: way log-uniform, a third with uneven shots."""
    rng = np.random.default_rng(seed)
    sources, members = space.sources, space.members
    if len(sources) > 1 and rng.random() < _ONE_SOURCE:
        sources = (sources[int(rng.integers(len(sources)))],)
    smallest = min(map(len, members))
    spared = len(members) > 2 and rng.random() >= _ALL_CLASSES
    most = min(len(members) - spared, _MOST_WAYS)
    way = int(np.clip(round(np.exp(rng.uniform(np.log(2), np.log(most + 0.49)))), 2, most))
    shot = min(int(rng.choice(_SHOTS)), max(1, _MOST_EXAMPLES // way))
    shots = np.full(way, shot)
    if shot > 1 and rng.random() < _UNEVEN:
        shots = rng.integers(1, 2 * shot, way)
    shots = np.minimum(shots, smallest - 1)
    per_class = max(1, min(_PER_CLASS, _QUERIES // way, smallest - int(shots.max())))
    drawn = [_task(space.members, shots, per_class, rng) for _ in range(tasks)]
    support, query = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    values = torch.from_numpy(np.concatenate(sources, axis=1))
    known = torch.arange(way).repeat_interleave(per_class)
    target = torch.cat((known, torch.full((query.shape[1] - len(known),), FOREIGN)))
    return SpaceTasks(
        values[support],
        torch.arange(way).repeat_interleave(torch.from_numpy(shots)).expand(tasks, -1),
        values[query],
        target.expand(tasks, -1),
        tuple(source.shape[1] for source in sources),
    )


def _task(
    members: tuple[np.ndarray, ...], shots: np.ndarray, per_class: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of support set and queries, those of foreign classes last."""
    order = rng.permutation(len(members))
    support, query = [], []
    for shot, label in zip(shots, order, strict=False):
        picked = rng.choice(members[label], shot + per_class, replace=False)
        support.append(picked[:shot])
        query.append(picked[shot:])
    if strangers := order[len(shots) :].tolist():
        labels = rng.choice(strangers, _FOREIGN)
        query.append(np.array([rng.choice(members[label]) for label in labels]))
    return np.concatenate(support), np.concatenate(query)
