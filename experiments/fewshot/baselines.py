"""Baselines that anybody can run on features, as users of scikit-learn would: one task at a time.

Rows are scaled as users of the kind of features do: embeddings and features of encoders to unit length, columns of
tables by the mean and deviation of the support set, pixels not at all. scikit-learn is imported on first use, and no
torch, so that processes start quickly. Linear models are fitted in the span of the support set, where their solutions
lie, logistic regression and shrinkage LDA without its overhead: the tests compare the results with scikit-learn's.

| baseline | embeddings | tables |
|---|---|---|
| centroid | nearest class mean of unit rows, by cosine | nearest class mean of standardised columns, and as they are |
| logistic regression | unit rows × 10 | standardised columns |
| kernel ridge | exp(2(cos − 1)), λ = 0.1 | the same of standardised columns |
| shrinkage LDA | unit rows, least squares, Ledoit-Wolf; from 2 shots | standardised columns |
| SVM | linear, C = 10 | RBF, C = 10 |
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from experiments.errors import ExperimentError

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Scaling = Literal["embedding", "table", "pixels"]
"""Kind of features: unit rows, columns of different units, or grey values in [0, 1]."""

PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""C of logistic regression, chosen by the likelihood in cross-validation; 1 at one shot."""
_ONE_SHOT_PENALTY = 1.0
_MOST_FOLDS, _MANY_WAYS, _FEW_FOLDS = 5, 20, 3
"""Folds of cross-validation: as many as shots, up to 5, and up to 3 above 20 ways."""
_TOLERANCE, _FOLD_TOLERANCE = 1e-5, 1e-3
"""Largest derivative of the mean loss at the end: of the fit, and of those that only choose C."""
UNIT_SCALE = 10.0
_RIDGE = 0.1
_RIDGE_SCALES = (2.0, 4.0, 8.0, 16.0, 32.0)
_ONE_SHOT_RIDGE_SCALE = 8.0
_SVM_PENALTY = 10.0
_UNSCALED = "centroid, columns unscaled"
_UNIT_NORM, _UNIT_SHARE = 0.01, 0.99
"""Rows are taken for embeddings if so large a share of them has a norm this close to 1."""


@dataclass(frozen=True)
class BaselineTask:
    """One task, scaled: rows of the support set with their classes, and rows of the queries.

    `support` and `query` are coordinates in which distances and products are those of `all_columns`.
    """

    support: Array
    labels: Labels
    query: Array
    all_columns: tuple[Array, Array]
    way: int
    shots: int


@dataclass(frozen=True)
class BaselineAnswer:
    """Answer to the queries of one task: classes, and log-probabilities [query, way] if the baseline has any."""

    label: Labels
    log_probs: Array | None


def check_sklearn() -> None:
    """Raise `ExperimentError` if scikit-learn is not installed. Call it before long work."""
    if importlib.util.find_spec("sklearn") is None:
        raise ExperimentError(
            "baselines need scikit-learn, which is not installed: pip install -e '.[evaluate]'"
        )


def scaling_of(rows: npt.NDArray[np.floating[Any]]) -> Scaling:
    """Return "embedding" if the rows have unit norm, else "table"."""
    even = np.abs(np.linalg.norm(rows.astype(np.float64), axis=1) - 1) < _UNIT_NORM
    return "embedding" if even.mean() >= _UNIT_SHARE else "table"


def names_for(scaling: Scaling) -> tuple[str, ...]:
    """Return the names of the baselines that are run on features of a kind."""
    if scaling == "pixels":
        return tuple(_METHODS)[:2]
    return (*_METHODS, *((_UNSCALED,) if scaling == "table" else ()))


def answer(
    scaling: Scaling,
    support: npt.NDArray[np.floating[Any]],
    labels: Labels,
    query: npt.NDArray[np.floating[Any]],
) -> dict[str, BaselineAnswer | None]:
    """Return the answer of each baseline to one task; None for those that need more shots.

    `labels` are 0 to way − 1, equally many of each. Raises `ExperimentError` without scikit-learn.
    """
    check_sklearn()
    way = int(labels.max()) + 1
    raw, raw_query = support.astype(np.float64), query.astype(np.float64)
    rows, queries = _scaled(scaling, raw, raw_query)
    inside = _in_span(rows, queries)
    task = BaselineTask(inside[0], labels, inside[1], (rows, queries), way, len(labels) // way)
    found = {name: method(scaling, task) for name, method in _METHODS.items() if name in names_for(scaling)}
    if scaling == "table":
        # One example a class tells little of the scale of a column: then it may be better left alone.
        found[_UNSCALED] = _centroid("pixels", replace(task, support=raw, query=raw_query))
    return found


def _scaled(scaling: Scaling, support: Array, query: Array) -> tuple[Array, Array]:
    if scaling == "embedding":
        return _unit(support), _unit(query)
    if scaling == "pixels":
        return support, query
    deviation = support.std(0)
    # A column that is constant in the support set is centred alone, as StandardScaler does.
    deviation[deviation < 1e-12 * np.abs(support).max(0).clip(1e-300)] = 1
    deviation[deviation == 0] = 1
    return (support - support.mean(0)) / deviation, (query - support.mean(0)) / deviation


def _unit(rows: Array) -> Array:
    found: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return found


def _in_span(support: Array, query: Array) -> tuple[Array, Array]:
    """Return coordinates in an orthonormal basis of the span of the support set, if that is smaller.

    One more coordinate holds the length of the part of a query that is outside, so that norms stay.
    """
    if support.shape[1] <= len(support) + 1:
        return support, query
    basis = np.linalg.qr(support.T)[0]
    inside = query @ basis
    outside = np.sqrt((np.square(query).sum(1) - np.square(inside).sum(1)).clip(0))
    rows = np.hstack((support @ basis, np.zeros((len(support), 1))))
    return rows, np.hstack((inside, outside[:, None]))


def _centroid(scaling: Scaling, task: BaselineTask) -> BaselineAnswer:
    means = np.stack([task.support[task.labels == one].mean(0) for one in range(task.way)])
    if scaling == "embedding":
        scores = task.query @ _unit(means).T
    else:
        scores = 2 * task.query @ means.T - np.square(means).sum(1)
    return BaselineAnswer(scores.argmax(1), None)


def _logistic_regression(scaling: Scaling, task: BaselineTask) -> BaselineAnswer:
    scale = UNIT_SCALE if scaling == "embedding" else 1.0
    x = scale * task.support
    penalty = _best_penalty(x, task) if task.shots > 1 else _ONE_SHOT_PENALTY
    (weights,) = _fitted_logistic(x, np.eye(task.way)[task.labels], (penalty,), _TOLERANCE)
    found = _logistic_log_probs(scale * task.query, weights)
    return BaselineAnswer(found.argmax(1), found)


def _best_penalty(x: Array, task: BaselineTask) -> float:
    """Return the C of the greatest likelihood in cross-validation with the classes evenly in each fold."""
    folds = min(task.shots, _MOST_FOLDS if task.way <= _MANY_WAYS else _FEW_FOLDS)
    place = np.zeros(len(x), dtype=np.int64)
    for one in range(task.way):
        members = np.flatnonzero(task.labels == one)
        place[members] = np.arange(len(members)) % folds
    targets, total = np.eye(task.way)[task.labels], np.zeros(len(PENALTIES))
    for fold in range(folds):
        out = place == fold
        fitted = _fitted_logistic(x[~out], targets[~out], PENALTIES, _FOLD_TOLERANCE)
        total += [(_logistic_log_probs(x[out], weights) * targets[out]).sum() for weights in fitted]
    return PENALTIES[int(total.argmax())]


def _fitted_logistic(x: Array, targets: Array, penalties: tuple[float, ...], tolerance: float) -> list[Array]:
    """Fit `LogisticRegression(C)` for each C, from the solution before: weights [columns + 1, way], offsets last.

    The loss and its scale are scikit-learn's, which fits one column for two classes: twice the penalty
    of two opposite ones.
    """
    from scipy.optimize import minimize

    rows = np.hstack((x, np.ones((len(x), 1))))
    shape = rows.shape[1], targets.shape[1]
    penalised = np.ones((shape[0], 1))
    penalised[-1] = 0
    weights, found = np.zeros(shape), []
    for penalty in penalties:
        strength = penalised * (2 if shape[1] == 2 else 1) / (penalty * len(x))

        def loss(flat: Array, strength: Array = strength) -> tuple[float, Array]:
            w = flat.reshape(shape)
            log_probs = _log_softmax(rows @ w)
            gradient = rows.T @ (np.exp(log_probs) - targets) / len(rows) + strength * w
            return (
                0.5 * float((strength * w * w).sum()) - float((log_probs * targets).sum()) / len(rows),
                gradient.ravel(),
            )

        options = {"maxiter": 1000, "gtol": tolerance, "ftol": 64 * np.finfo(np.float64).eps}
        weights = minimize(loss, weights.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(
            shape
        )
        found.append(weights)
    return found


def _logistic_log_probs(x: Array, weights: Array) -> Array:
    return _log_softmax(x @ weights[:-1] + weights[-1])


def _kernel_ridge(scaling: Scaling, task: BaselineTask) -> BaselineAnswer:
    """Ridge on one-hot targets; probabilities are the softmax of the scores times a factor.

    The factor has the greatest leave-one-out likelihood in closed form; at one shot, where that says nothing, it is 8.
    """
    rows, queries = _unit(task.support), _unit(task.query)
    kernel = np.exp(2 * (rows @ rows.T - 1))
    inverse = np.linalg.inv(kernel + _RIDGE * np.eye(len(rows)))
    targets = np.eye(task.way)[task.labels]
    dual = inverse @ targets
    scores = np.exp(2 * (queries @ rows.T - 1)) @ dual
    scale = _ONE_SHOT_RIDGE_SCALE
    if task.shots > 1:
        left_out = targets - dual / np.diag(inverse)[:, None]
        own = np.arange(len(rows)), task.labels
        scale = max(_RIDGE_SCALES, key=lambda factor: float(_log_softmax(factor * left_out)[own].sum()))
    return BaselineAnswer(scores.argmax(1), _log_softmax(scale * scores))


def _shrinkage_lda(scaling: Scaling, task: BaselineTask) -> BaselineAnswer | None:
    """`LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")`, solved by the lower rank of its covariance.

    scikit-learn shrinks the covariance of each class in columns scaled to its deviations, and takes their mean.
    """
    if task.shots < 2:
        return None
    support, query = task.all_columns
    diagonal, factors, means = np.zeros(support.shape[1]), [], []
    for one in range(task.way):
        members = support[task.labels == one]
        means.append(members.mean(0))
        centred = members - means[-1]
        deviation = centred.std(0)
        deviation[deviation < 10 * np.finfo(np.float64).eps * np.abs(means[-1]).clip(1)] = 1
        shrinkage, mean_variance = _ledoit_wolf(centred / deviation)
        diagonal += shrinkage * mean_variance * np.square(deviation) / task.way
        factors.append(centred * np.sqrt((1 - shrinkage) / len(members) / task.way))
    centres = np.stack(means)
    solved = _solve_low_rank(diagonal, np.concatenate(factors), centres)
    found = _log_softmax(query @ solved.T - 0.5 * (centres * solved).sum(1))
    return BaselineAnswer(found.argmax(1), found)


def _ledoit_wolf(centred: Array) -> tuple[float, float]:
    """Return the shrinkage of Ledoit and Wolf (2004) and the mean variance of the columns."""
    count, columns = centred.shape
    gram = centred @ centred.T
    mean_variance = float(np.trace(gram)) / count / columns
    squares = float(np.square(gram).sum()) / count**2
    spread = float(np.square(np.diag(gram)).sum()) / count
    beta = (spread - squares) / columns / count
    delta = (squares - columns * mean_variance**2) / columns
    shrinkage = min(beta, delta) / delta if delta > 0 and beta > 0 else 0.0
    return shrinkage, mean_variance


def _solve_low_rank(diagonal: Array, factor: Array, rows: Array) -> Array:
    """Return `rows` times the inverse of diag(diagonal) + factorᵀ factor, by Woodbury's identity if that is less."""
    if len(factor) >= len(diagonal) or diagonal.min() <= 0:
        covariance = np.diag(diagonal) + factor.T @ factor
        found: Array = np.linalg.lstsq(covariance, rows.T, rcond=None)[0].T.astype(np.float64)
        return found
    scaled = factor / diagonal
    inner = np.eye(len(factor)) + scaled @ factor.T
    return rows / diagonal - (rows @ scaled.T) @ np.linalg.solve(inner, scaled)


def _svm(scaling: Scaling, task: BaselineTask) -> BaselineAnswer:
    """Probabilities are the softmax of the decision values: Platt's need more examples than a task has."""
    from sklearn.svm import SVC

    kernel = "rbf" if scaling == "table" else "linear"
    # What scikit-learn calls "scale", for columns whose means are 0.
    gamma = 1 / float(np.square(task.support).sum(1).mean().clip(1e-12))
    with warnings.catch_warnings():
        # One example a class is no regression.
        warnings.filterwarnings("ignore", message="The number of unique classes")
        fitted = SVC(kernel=kernel, C=_SVM_PENALTY, gamma=gamma).fit(task.support, task.labels)
    scores = _two_columns(fitted.decision_function(task.query))
    return BaselineAnswer(scores.argmax(1), _log_softmax(scores))


def _two_columns(scores: Array) -> Array:
    """Return a column per class: scikit-learn has one for two classes."""
    return np.stack((-scores / 2, scores / 2), axis=1) if scores.ndim == 1 else scores


def _log_softmax(scores: Array) -> Array:
    shifted = scores - scores.max(1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return found


_METHODS: dict[str, Callable[[Scaling, BaselineTask], BaselineAnswer | None]] = {
    "centroid": _centroid,
    "logistic regression": _logistic_regression,
    "kernel ridge": _kernel_ridge,
    "shrinkage LDA": _shrinkage_lda,
    "SVM": _svm,
}
