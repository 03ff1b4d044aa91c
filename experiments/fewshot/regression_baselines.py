"""Baselines of `hyperserve evaluate regression`, as users of scikit-learn are advised to run them.

Gaussian process: standardised inputs and targets, Constant · RBF + White with a length for each input if there are five
examples to an input, else with one; the evidence is maximised from the usual start and from `restarts` random ones.
Ridge: standardised inputs, the penalty by leave-one-out; an answer's variance is the mean squared leave-one-out error.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from experiments.fewshot.regression_tasks import Array, RegressionTask

_ENOUGH = 5
"""Examples an input for which a length of its own is fitted."""
_LEAST_VARIANCE = 1e-10
_PENALTIES = np.logspace(-6, 4, 21)


@dataclass(frozen=True)
class Fitted:
    """Answers to the queries of a task, and the seconds of a processor that the fit took."""

    mean: Array
    variance: Array
    seconds: float


def gaussian_process(task: RegressionTask, restarts: int) -> Fitted:
    """Fit scikit-learn's Gaussian process and answer the queries."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    x, query = _standardised(task)
    count, dim = x.shape
    lengths = np.ones(dim) if count >= _ENOUGH * dim else 1.0
    kernel = ConstantKernel() * RBF(lengths) + WhiteKernel()
    model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=restarts, random_state=0)
    with warnings.catch_warnings():
        # Lengths at their bounds are usual for inputs that do not matter.
        warnings.simplefilter("ignore", ConvergenceWarning)
        started = time.process_time()
        model.fit(x, task.support_y)
        seconds = time.process_time() - started
        mean, deviation = model.predict(query, return_std=True)
    return Fitted(mean, np.maximum(deviation**2, _LEAST_VARIANCE), seconds)


def ridge(task: RegressionTask) -> Fitted:
    """Fit ridge regression and answer the queries."""
    from sklearn.linear_model import RidgeCV

    x, query = _standardised(task)
    started = time.process_time()
    model = RidgeCV(alphas=_PENALTIES, store_cv_results=True).fit(x, task.support_y)
    seconds = time.process_time() - started
    variance = max(float(model.cv_results_.mean(0).min()), _LEAST_VARIANCE)
    mean = model.predict(query)
    return Fitted(mean, np.full_like(mean, variance), seconds)


def baselines(restarts: int, folder: Path | None) -> Mapping[str, Callable[[RegressionTask], Fitted]]:
    """Return the baselines by name. Answers of the Gaussian process are kept in `folder`, if given, and read again."""
    process = partial(gaussian_process, restarts=restarts)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        process = partial(_kept, folder, restarts)
    return {"scikit-learn GP": process, "ridge": ridge}


def _kept(folder: Path, restarts: int, task: RegressionTask) -> Fitted:
    digest = hashlib.sha256(f"gaussian process, {restarts} restarts".encode())
    for values in (task.support_x, task.support_y, task.query_x):
        digest.update(np.ascontiguousarray(values).tobytes())
    file = folder / f"{digest.hexdigest()}.npz"
    if file.exists():
        with np.load(file) as kept:
            return Fitted(kept["mean"], kept["variance"], float(kept["seconds"]))
    found = gaussian_process(task, restarts)
    np.savez(file, mean=found.mean, variance=found.variance, seconds=found.seconds)
    return found


def _standardised(task: RegressionTask) -> tuple[Array, Array]:
    mean, deviation = task.support_x.mean(0), task.support_x.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return (task.support_x - mean) / deviation, (task.query_x - mean) / deviation
