"""Baselines over all tasks of a cell, shared out over processes; results do not depend on the number of these."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from experiments.fewshot.baselines import Scaling, answer, check_sklearn, names_for

_LEAST_TASKS_EACH = 5
_CHUNKS_PER_JOB = 4

Rows = npt.NDArray[np.float32]
Positions = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Classes, support set and queries of one task, both by class, as `models.evaluation.episodic.draw` gives them."""


@dataclass(frozen=True)
class BaselineRun:
    """Scores of one baseline, [tasks] and [tasks, query]; likelihoods are None if it has no probabilities."""

    accuracy: npt.NDArray[np.float64]
    nll: npt.NDArray[np.float64] | None
    brier: npt.NDArray[np.float64]
    confidence: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]


class Runner:
    """Runs baselines on tasks. Made by `runner`, which ends its processes."""

    def __init__(self, pool: ProcessPoolExecutor | None, jobs: int) -> None:
        self._pool = pool
        self._jobs = jobs

    def run(
        self, scaling: Scaling, rows: Rows, drawn: Sequence[Positions], way: int, shot: int
    ) -> dict[str, BaselineRun | None]:
        """Return the scores of each baseline; None for those that need more shots."""
        size = max(_LEAST_TASKS_EACH, -(-len(drawn) // (_CHUNKS_PER_JOB * self._jobs)))
        if way > _LEAST_TASKS_EACH * _CHUNKS_PER_JOB:
            size = 1
        chunks = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        # A task takes its own rows along: less than the memory of all in each process.
        gathered = ([_gathered(rows, task) for task in chunk] for chunk in chunks)
        work = partial(_chunk, scaling, way, shot)
        parts = list(map(work, gathered) if self._pool is None else self._pool.map(work, gathered))
        return {name: _joined([part[name] for part in parts]) for name in names_for(scaling)}


@contextmanager
def runner(jobs: int) -> Iterator[Runner]:
    """Open a runner with so many processes; 1 is this one. Raises `ExperimentError` without scikit-learn."""
    check_sklearn()
    if jobs == 1:
        yield Runner(None, jobs)
        return
    # Spawned: a fork of a process with torch's threads may hang.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield Runner(pool, jobs)


def _gathered(rows: Rows, task: Positions) -> tuple[Rows, Rows]:
    return rows[task[1]], rows[task[2]]


def _chunk(
    scaling: Scaling, way: int, shot: int, tasks: Sequence[tuple[Rows, Rows]]
) -> dict[str, BaselineRun | None]:
    """Answer some tasks, on one thread: sums of several threads differ in their last digits."""
    from threadpoolctl import threadpool_limits

    labels = np.arange(way).repeat(shot)
    with threadpool_limits(1):
        answers = [(answer(scaling, support, labels, query), len(query)) for support, query in tasks]
    found: dict[str, BaselineRun | None] = {}
    for name in names_for(scaling):
        runs = []
        for answered, count in answers:
            one = answered[name]
            if one is None:
                break
            target = np.arange(way).repeat(count // way)
            runs.append(_scored(one.label, one.log_probs, target))
        found[name] = _joined(runs) if len(runs) == len(answers) else None
    return found


def _scored(
    label: npt.NDArray[np.int64], log_probs: npt.NDArray[np.float64] | None, target: npt.NDArray[np.int64]
) -> BaselineRun:
    right = (label == target)[None]
    score = right.mean(1)
    if log_probs is None:
        return BaselineRun(score, None, np.zeros((1, 0)), np.zeros((1, 0)), right)
    probabilities, hot = np.exp(log_probs), np.eye(log_probs.shape[1])[target]
    own = log_probs[np.arange(len(target)), target]
    brier = np.square(probabilities - hot).sum(1)
    return BaselineRun(score, -own.mean(keepdims=True), brier[None], probabilities.max(1)[None], right)


def _joined(runs: Sequence[BaselineRun | None]) -> BaselineRun | None:
    """Return the runs of all tasks as one; None if a baseline has none."""
    found = [run for run in runs if run is not None]
    if len(found) < len(runs) or not found:
        return None
    likely = [run.nll for run in found if run.nll is not None]
    return BaselineRun(
        np.concatenate([run.accuracy for run in found]),
        np.concatenate(likely) if likely else None,
        np.concatenate([run.brier for run in found]),
        np.concatenate([run.confidence for run in found]),
        np.concatenate([run.right for run in found]),
    )
