"""Tasks of `hyperserve evaluate regression`: functions of textbooks, and rows of tables.

Targets are in units of their deviation over the function or the table, so that an error of 1 explains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.errors import ExperimentError

Array = npt.NDArray[np.float64]
SHOTS = (5, 10, 20, 50)
TABLE_SHOTS = (50, 200, 1_000)
_QUERIES = 100
_LEAST_QUERIES = 20
_MOST_QUERIES = 500


@dataclass(frozen=True)
class RegressionTask:
    """Support set and queries of one function."""

    support_x: Array
    support_y: Array
    query_x: Array
    query_y: Array


@dataclass(frozen=True)
class TaskSet:
    """Tasks of one kind and of one number of examples."""

    name: str
    shot: int
    tasks: list[RegressionTask]

    @property
    def dim(self) -> int:
        return int(self.tasks[0].support_x.shape[1])


def _interval(rng: np.random.Generator, count: int) -> Array:
    return rng.uniform(-5, 5, (count, 1))


def _unit_cube(rng: np.random.Generator, count: int) -> Array:
    return rng.uniform(0, 1, (count, 10))


def _circuit(rng: np.random.Generator, count: int) -> Array:
    low, high = np.array([0, 40 * math.pi, 0, 1]), np.array([100, 560 * math.pi, 1, 11])
    x: Array = low + (high - low) * rng.uniform(0, 1, (count, 4))
    return x


def _line(rng: np.random.Generator) -> Callable[[Array], Array]:
    slope, height = rng.normal(size=2)
    return lambda x: slope * x[:, 0] + height


def _quadratic(rng: np.random.Generator) -> Callable[[Array], Array]:
    curve, slope, height = rng.normal(size=3)
    return lambda x: curve * x[:, 0] ** 2 / 3 + slope * x[:, 0] + height


def _sinusoid(rng: np.random.Generator) -> Callable[[Array], Array]:
    size, phase = rng.uniform(0.1, 5), rng.uniform(0, math.pi)
    return lambda x: size * np.sin(x[:, 0] + phase)


def _step(rng: np.random.Generator) -> Callable[[Array], Array]:
    place, height = rng.uniform(-3, 3), rng.normal()
    return lambda x: np.where(x[:, 0] > place, height, 0.0)


def _friedman_1(rng: np.random.Generator) -> Callable[[Array], Array]:
    return lambda x: (
        10 * np.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    )


def _reactance(x: Array) -> Array:
    found: Array = x[:, 1] * x[:, 2] - 1 / (x[:, 1] * x[:, 3])
    return found


def _friedman_2(rng: np.random.Generator) -> Callable[[Array], Array]:
    return lambda x: np.sqrt(x[:, 0] ** 2 + _reactance(x) ** 2)


def _friedman_3(rng: np.random.Generator) -> Callable[[Array], Array]:
    return lambda x: np.arctan(_reactance(x) / x[:, 0])


@dataclass(frozen=True)
class Kind:
    """A kind of functions, the points they are seen at, and the deviation of the noise."""

    points: Callable[[np.random.Generator, int], Array]
    draw: Callable[[np.random.Generator], Callable[[Array], Array]]
    noise: float = 0.0


KINDS: Mapping[str, Kind] = {
    "line": Kind(_interval, _line),
    "line, noise 0.1": Kind(_interval, _line, 0.1),
    "quadratic": Kind(_interval, _quadratic),
    "quadratic, noise 0.1": Kind(_interval, _quadratic, 0.1),
    "sinusoid, noise 0.1": Kind(_interval, _sinusoid, 0.1),
    "step": Kind(_interval, _step),
    "step, noise 0.1": Kind(_interval, _step, 0.1),
    "Friedman 1, noise 1": Kind(_unit_cube, _friedman_1, 1.0),
    "Friedman 2, noise 125": Kind(_circuit, _friedman_2, 125.0),
    "Friedman 3, noise 0.1": Kind(_circuit, _friedman_3, 0.1),
}
"""The functions; those of Friedman (1991) with the noise he gave them."""


def function_sets(tasks: int, seed: int) -> Iterator[TaskSet]:
    """Yield tasks of every kind and number of examples."""
    for index, (name, kind) in enumerate(KINDS.items()):
        for shot in SHOTS:
            rngs = [np.random.default_rng((seed, index, shot, task)) for task in range(tasks)]
            yield TaskSet(name, shot, [_function(rng, kind, shot) for rng in rngs])


def _function(rng: np.random.Generator, kind: Kind, shot: int) -> RegressionTask:
    function = kind.draw(rng)
    x = kind.points(rng, shot + _QUERIES)
    values = function(x)
    y = values + kind.noise * rng.normal(size=len(x))
    scale = values.std()
    return RegressionTask(x[:shot], y[:shot] / scale, x[shot:], y[shot:] / scale)


def table_sets(
    file: Path, names: list[str], splits: int, seed: int, shots: tuple[int, ...]
) -> Iterator[TaskSet]:
    """Yield tasks whose support sets are rows of a table `<name>_x`, `<name>_y` of an npz; queries are other rows.

    Columns that are constant in the table are left out. Raises `ExperimentError` for a table that is not there.
    """
    with np.load(file) as arrays:
        known = [key[:-2] for key in arrays.files if key.endswith("_x")]
        for name in names or known:
            if name not in known:
                raise ExperimentError(f"{file} holds no table {name!r}; it holds {', '.join(known)}")
            x, y = arrays[f"{name}_x"].astype(np.float64), arrays[f"{name}_y"].astype(np.float64)
            x, y = x[:, x.std(0) > 0], (y - y.mean()) / y.std()
            for shot in shots:
                if len(x) >= shot + _LEAST_QUERIES:
                    rngs = [np.random.default_rng((seed, shot, split)) for split in range(splits)]
                    yield TaskSet(name, shot, [_rows(rng, x, y, shot) for rng in rngs])


def _rows(rng: np.random.Generator, x: Array, y: Array, shot: int) -> RegressionTask:
    order = rng.permutation(len(x))
    support, query = order[:shot], order[shot : shot + _MOST_QUERIES]
    return RegressionTask(x[support], y[support], x[query], y[query])
