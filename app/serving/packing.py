"""One task's weights as 64-bit words: one line per class row, one line for the rest.

Whatever tensors a learner has, a batch of packed weights is gathered by one index per line. The first word of a
row is its class key. Points of kernel machines lie in the line of the task, their coefficients in the rows of the
classes, both padded to a number of a ladder: so tasks of nearly as many points batch together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int, Int64
from torch import Tensor

from models.protocol import TaskWeights

WORD = 8
_POINTS, _COEFFICIENTS, _COUNT = "points.", "coefficients.", "n_points"
_LADDER = 4
"""Steps of the ladder for each doubling of the number of points."""


@dataclass(frozen=True)
class Column:
    """The place of one tensor in a line: words `start` to `stop`."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """The mapping of a learner's tensors (names, shapes, types) to words. Equal layouts batch together."""

    row: tuple[Column, ...]
    task: tuple[Column, ...]

    @classmethod
    def of(cls, weights: TaskWeights) -> Layout:
        rows, task = _padded(weights)
        row = {
            name: value[0, 0] if value.shape[1] else value.new_empty(value.shape[2:])
            for name, value in rows.items()
        }
        return _one(cls(_columns(row, 1), _columns({name: value[0] for name, value in task.items()}, 0)))

    @property
    def row_words(self) -> int:
        return self.row[-1].stop if self.row else 1

    @property
    def task_words(self) -> int:
        return self.task[-1].stop if self.task else 0

    def unpack(
        self,
        rows: Int64[Tensor, "tasks way row_words"],
        task: Int64[Tensor, "tasks task_words"],
        n_way: Int[Tensor, "tasks"],
        seed: Int[Tensor, "tasks"],
    ) -> TaskWeights:
        """Return weights that are views of the words. Rows must be zero from `n_way` on."""
        tasks, pairs = _views(task, self.task), _views(rows, self.row)
        count = tasks.pop(_COUNT, None)
        return TaskWeights(
            task=_without(tasks, _POINTS),
            rows=_without(pairs, _COEFFICIENTS),
            n_way=n_way,
            class_key=rows[..., 0],
            seed=seed,
            points=_only(tasks, _POINTS),
            coefficients=_only(pairs, _COEFFICIENTS),
            n_points=count,
        )


@dataclass(frozen=True)
class PackedWeights:
    """One task's weights as words."""

    layout: Layout
    rows: Int64[Tensor, "way row_words"]
    task: Int64[Tensor, "task_words"]
    seed: int

    @classmethod
    def of(cls, weights: TaskWeights, device: torch.device) -> PackedWeights:
        """Copy the weights of one task to `device`."""
        layout, way = Layout.of(weights), int(weights.n_way[0])
        all_rows, all_task = _padded(weights)
        rows = torch.zeros(way, layout.row_words, dtype=torch.int64, device=device)
        task = torch.zeros(layout.task_words, dtype=torch.int64, device=device)
        rows[:, 0] = weights.class_key[0, :way]
        for name, view in _views(rows, layout.row).items():
            view.copy_(all_rows[name][0, :way])
        for name, view in _views(task, layout.task).items():
            view.copy_(all_task[name][0])
        return cls(layout, rows, task, int(weights.seed[0]))

    @property
    def way(self) -> int:
        return self.rows.shape[0]

    @property
    def nbytes(self) -> int:
        return WORD * (self.rows.numel() + self.task.numel())


def _padded(weights: TaskWeights) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return all tensors of one task as rows and as the rest, points padded with zeros."""
    rows, task = dict(weights.rows), dict(weights.task)
    if weights.n_points is None:
        return rows, task
    count = int(weights.n_points[0])
    room = _rung(count)
    for name, value in weights.points.items():
        padded = value.new_zeros(1, room, *value.shape[2:])
        padded[:, :count] = value[:, :count]
        task[_POINTS + name] = padded
    for name, value in weights.coefficients.items():
        padded = value.new_zeros(1, value.shape[1], room, *value.shape[3:])
        padded[:, :, :count] = value[:, :, :count]
        rows[_COEFFICIENTS + name] = padded
    task[_COUNT] = weights.n_points
    return rows, task


def _rung(count: int) -> int:
    """Return the least number of the ladder that is not below `count`: whole up to 8, then in steps of a quarter."""
    step = max(1, (1 << (count - 1).bit_length()) // (2 * _LADDER)) if count else 1
    return -(-count // step) * step


def _only(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _without(values: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in values.items() if not name.startswith(prefix)}


@lru_cache(maxsize=4096)
def _one(layout: Layout) -> Layout:
    """Return one object for equal layouts, so that a batch is grouped by identity."""
    return layout


def _columns(samples: dict[str, Tensor], start: int) -> tuple[Column, ...]:
    columns = []
    for name in sorted(samples):
        value = samples[name]
        stop = start + -(-value.numel() * value.element_size() // WORD)
        strides = value.new_empty(value.shape).stride()
        columns.append(Column(name, value.dtype, tuple(value.shape), strides, start, stop))
        start = stop
    return tuple(columns)


def _views(words: Int64[Tensor, "*lead words"], columns: tuple[Column, ...]) -> dict[str, Tensor]:
    """Return the tensors that lie in lines of words. They share memory with the words."""
    typed = {dtype: words.view(dtype) for dtype in {column.dtype for column in columns}}
    found = {}
    for column in columns:
        elements = typed[column.dtype]
        start = elements.storage_offset() + column.start * (WORD // column.dtype.itemsize)
        size, stride = (*words.shape[:-1], *column.shape), (*elements.stride()[:-1], *column.strides)
        found[column.name] = elements.as_strided(size, stride, start)
    return found
