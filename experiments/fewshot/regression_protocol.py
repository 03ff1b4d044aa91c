"""`hyperserve evaluate regression`: learners of functions beside scikit-learn's Gaussian process and ridge, paired.

Every learner and baseline answers the same queries of the same tasks. Differences are ours minus theirs per task, with
95 % intervals over tasks (functions) or splits (tables). Time is that of one thread of a processor, and for learners
that of a task in a batch, as a server adapts, and of one alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from experiments.fewshot.regression_baselines import Fitted
from experiments.fewshot.regression_tasks import Array, RegressionTask, TaskSet
from models.evaluation.scores import MeanEstimate
from models.fewshot.common.regression import Regressor
from models.predictive import Gaussian
from models.protocol import LearnerError, MetaLearner, Support

_Z90 = 1.6448536269514722
"""Half-width of the middle 90 % of a normal distribution, in standard deviations."""
_BATCH = 64
"""Tasks adapted to at a time."""
_BATCH_POINTS = 6_400
"""Most examples of a batch, padding included."""
_MOST_ALONE = 8
"""Tasks whose adaptation alone is timed."""
RIVAL = "scikit-learn GP"
TASKS = 60
"""Functions of a kind and a number of examples."""
DESCRIPTION = (
    "the same queries of the same tasks for all; targets in units of their deviation over the function or the table, "
    "so an mse of 1 explains nothing; nll in nats; differences are of the first learner to scikit-learn's Gaussian "
    "process, negative is better; ± is the half-width of the 95 % interval over functions or splits; ms to adapt are "
    "of one thread of a processor, for learners of a task in a batch of up to 64 and of one alone"
)


@dataclass(frozen=True)
class Scores:
    """Measures of each task of a set."""

    mse: Array
    nll: Array
    coverage: Array
    width: Array
    milliseconds: float
    """To adapt, mean over tasks; in a batch for learners."""
    milliseconds_alone: float


def scores(found: list[Fitted], tasks: list[RegressionTask], alone: float | None = None) -> Scores:
    """Return the measures of answers."""
    error = [(one.mean - task.query_y) ** 2 for one, task in zip(found, tasks, strict=True)]
    half = [_Z90 * np.sqrt(one.variance) for one in found]
    nll = [
        0.5 * (e / one.variance + np.log(2 * np.pi * one.variance))
        for e, one in zip(error, found, strict=True)
    ]
    milliseconds = 1e3 * float(np.mean([one.seconds for one in found]))
    return Scores(
        mse=np.array([e.mean() for e in error]),
        nll=np.array([n.mean() for n in nll]),
        coverage=np.array([(e <= h**2).mean() for e, h in zip(error, half, strict=True)]),
        width=np.array([2 * h.mean() for h in half]),
        milliseconds=milliseconds,
        milliseconds_alone=milliseconds if alone is None else 1e3 * alone,
    )


def learner_scores(learner: MetaLearner, tasks: list[RegressionTask]) -> Scores:
    """Answer tasks of one size by a learner. Raises `LearnerError` if it takes other functions."""
    count, dim = tasks[0].support_x.shape
    if not isinstance(learner, Regressor) or not learner.takes(dim, 1):
        raise LearnerError(f"this learner does not take functions from {dim} numbers to one")
    size = max(1, min(_BATCH, _BATCH_POINTS // count))
    found: list[Fitted] = []
    with torch.no_grad():
        for first in range(0, len(tasks), size):
            part = tasks[first : first + size]
            support = _support(learner, part)
            started = time.process_time()
            weights = learner.adapt(support)
            seconds = (time.process_time() - started) / len(part)
            answer = learner.predict(weights, _embedded(learner, [task.query_x for task in part]))
            assert isinstance(answer, Gaussian)
            epistemic = 0.0 if answer.epistemic is None else answer.epistemic
            mean, variance = answer.mean[..., 0], (answer.aleatoric + epistemic)[..., 0]
            found += [
                Fitted(m.double().numpy(), v.double().numpy(), seconds)
                for m, v in zip(mean, variance, strict=True)
            ]
        alone = []
        for task in tasks[:_MOST_ALONE]:
            support = _support(learner, [task])
            started = time.process_time()
            learner.adapt(support)
            alone.append(time.process_time() - started)
    return scores(found, tasks, float(np.mean(alone)))


def _support(learner: Regressor, tasks: list[RegressionTask]) -> Support:
    y = torch.tensor(np.stack([task.support_y for task in tasks]), dtype=torch.float32)[..., None]
    return Support.of(_embedded(learner, [task.support_x for task in tasks]), y)


def _embedded(learner: Regressor, parts: list[Array]) -> torch.Tensor:
    x = torch.tensor(np.stack(parts), dtype=torch.float32)
    features: torch.Tensor = learner.embed(x.flatten(0, 1))
    found: torch.Tensor = features.unflatten(0, x.shape[:2])
    return found


def measured(
    learners: Mapping[str, MetaLearner],
    baselines: Mapping[str, Callable[[RegressionTask], Fitted]],
    sets: Iterable[TaskSet],
    report: Callable[[str], None],
) -> dict[str, list[dict[str, Any]]]:
    """Measure learners and baselines on every set of tasks: a row for each, and differences to the rival.

    A learner that does not take a set's functions is left out of its rows; the first learner must take them all.
    """
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for tasks in sets:
        found: dict[str, Scores] = {}
        for index, (name, learner) in enumerate(learners.items()):
            if index == 0 or (isinstance(learner, Regressor) and learner.takes(tasks.dim, 1)):
                found[name] = learner_scores(learner, tasks.tasks)
        for name, fit in baselines.items():
            found[name] = scores([fit(task) for task in tasks.tasks], tasks.tasks)
        rows += [_row(tasks, name, one) for name, one in found.items()]
        if RIVAL in found:
            ours = next(iter(learners))
            differences.append(_difference(tasks, found[ours], found[RIVAL]))
        report(f"{tasks.name}, {tasks.shot} examples")
    return {"rows": rows, "differences": differences}


def _row(tasks: TaskSet, name: str, found: Scores) -> dict[str, Any]:
    return {
        "functions": tasks.name,
        "dim": tasks.dim,
        "shot": tasks.shot,
        "by": name,
        "mse": _estimate(found.mse),
        "nll": _estimate(found.nll),
        "coverage_90": _estimate(found.coverage),
        "width_90": _estimate(found.width),
        "ms_to_adapt": found.milliseconds,
        "ms_alone": found.milliseconds_alone,
    }


def _difference(tasks: TaskSet, ours: Scores, theirs: Scores) -> dict[str, Any]:
    return {
        "functions": tasks.name,
        "shot": tasks.shot,
        "mse": _estimate(ours.mse - theirs.mse),
        "nll": _estimate(ours.nll - theirs.nll),
        "times_faster": theirs.milliseconds / max(ours.milliseconds, 1e-9),
        "times_faster_alone": theirs.milliseconds / max(ours.milliseconds_alone, 1e-9),
    }


def _estimate(values: Array) -> dict[str, Any]:
    return asdict(MeanEstimate.over(torch.tensor(values)))


def verdict(differences: list[dict[str, Any]]) -> dict[str, Any]:
    """Count the sets on which ours is better, no different and worse than the rival at 95 %, by measure."""
    found: dict[str, Any] = {}
    for measure in ("mse", "nll"):
        ends = [(row[measure]["mean"], row[measure]["ci95"]) for row in differences]
        found[f"{measure}_better"] = sum(mean + half < 0 for mean, half in ends)
        found[f"{measure}_no_different"] = sum(abs(mean) <= half for mean, half in ends)
        found[f"{measure}_worse"] = sum(mean - half > 0 for mean, half in ends)
    return found
