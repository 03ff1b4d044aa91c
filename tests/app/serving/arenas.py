"""Small arenas and weights of a known size."""

from __future__ import annotations

from dataclasses import replace

import torch

from app.serving.arena import Arena
from app.serving.packing import WORD, PackedWeights
from models.protocol import TaskWeights

CPU = torch.device("cpu")
ROW = 4
"""Words of a row of `packed`: the class key and six float32."""


def weights(way: int, value: float = 1.0, dim: int = 6, task_dim: int = 0) -> TaskWeights:
    return TaskWeights(
        task={"bias": torch.full((1, task_dim), float(value))} if task_dim else {},
        rows={"prototype": torch.full((1, way, dim), float(value))},
        n_way=torch.tensor([way]),
        class_key=torch.arange(1, way + 1)[None],
        seed=torch.tensor([int(value)]),
    )


def kernel_machine(way: int, count: int, value: float = 1.0) -> TaskWeights:
    """Weights with `count` points, and a coefficient for each class and point."""
    return replace(
        weights(way, value),
        points={"place": torch.full((1, count, 3), float(value))},
        coefficients={"alpha": torch.full((1, way, count, 2), float(value))},
        n_points=torch.tensor([count]),
    )


def packed(way: int, value: float = 1.0, dim: int = 6, task_dim: int = 0) -> PackedWeights:
    return PackedWeights.of(weights(way, value, dim, task_dim), CPU)


def arena_of_rows(rows_per_slab: int) -> Arena:
    """63 usable slabs of `rows_per_slab` rows of `packed`."""
    return Arena(64 * rows_per_slab * ROW * WORD)


def read(arena: Arena, key: str) -> TaskWeights | None:
    entry = arena.pin(key)
    if entry is None:
        return None
    gathered = arena.gather([entry])
    arena.unpin(entry)
    return gathered
