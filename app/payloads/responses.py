"""Predictive distributions as answers on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch

from app.http.problems import fail
from hyperserve.types import Estimate, Prediction
from models.predictive import Categorical, Gaussian, Predictive

_NOT_FINITE = "The predictions are not finite; scale the inputs to about 1."
_LEAST_VARIANCE = float(torch.finfo(torch.float32).tiny)
"""Lower bound of a variance, so that a density stays finite however certain a learner is."""


def estimates(
    predictive: Gaussian, *, coverage: float, targets: npt.NDArray[np.float64] | None
) -> list[Estimate]:
    """Return an estimate for each query of a batch of one task. Raises `ProblemError` 422 if one is not finite.

    Intervals are those of a Gaussian with the total variance. `targets` [queries, target] are the right answers, if
    they are known: they add `nll`, the negative log density of the whole vector.
    """
    mean, aleatoric = predictive.mean[0].double(), predictive.aleatoric[0].double()
    epistemic = None if predictive.epistemic is None else predictive.epistemic[0].double()
    variance = (aleatoric if epistemic is None else aleatoric + epistemic).clamp_min(_LEAST_VARIANCE)
    if not bool(mean.isfinite().all() and variance.isfinite().all()):
        raise fail("numerical_overflow", _NOT_FINITE, "/queries")
    # Computed from the small tail: the large one rounds to 1 if the coverage is close to it.
    reach = -NormalDist().inv_cdf((1 - coverage) / 2) * variance.sqrt()
    intervals = torch.stack((mean - reach, mean + reach), -1).tolist()
    nll = [None] * len(mean)
    if targets is not None:
        exact = Gaussian(mean[None], variance[None])
        nll = (-exact.log_prob(torch.from_numpy(targets)[None])[0]).tolist()
    return [
        Estimate(
            mean=mean[query].tolist(),
            aleatoric=aleatoric[query].tolist(),
            epistemic=None if epistemic is None else epistemic[query].tolist(),
            interval=[(low, high) for low, high in intervals[query]],
            nll=nll[query],
        )
        for query in range(len(mean))
    ]


def predictions(
    predictive: Predictive, classes: Sequence[str], *, coverage: float, top: int | None
) -> list[Prediction]:
    """Return a prediction for each query of a batch of one task. Raises `ProblemError` 422 if one is not finite.

    `label` is the argmax; with `top`, the most probable class comes first.
    """
    if not isinstance(predictive, Categorical):
        raise NotImplementedError(
            f"no answer on the wire for a predictive of type {type(predictive).__name__}"
        )
    log_probs = predictive.log_probs[0].double()
    probabilities = log_probs.exp() / log_probs.exp().sum(-1, keepdim=True)
    if not bool(probabilities.isfinite().all()):
        raise fail("numerical_overflow", _NOT_FINITE, "/queries")
    order = predictive.ranking()[0]
    inside = predictive.prediction_sets(coverage)[0].tolist()
    entropy = predictive.entropy[0].clamp_min(0).tolist()
    epistemic = None if predictive.epistemic is None else predictive.epistemic[0].tolist()
    unknown = None if predictive.unknown is None else predictive.unknown[0].tolist()
    answers = []
    for query, (row, ranked) in enumerate(zip(probabilities.tolist(), order.tolist(), strict=True)):
        shown = range(len(classes)) if top is None else ranked[:top]
        answers.append(
            Prediction(
                label=classes[ranked[0]],
                confidence=row[ranked[0]],
                probabilities={classes[index]: row[index] for index in shown},
                unknown=None if unknown is None else unknown[query],
                entropy=entropy[query],
                epistemic=None if epistemic is None else epistemic[query],
                prediction_set=[classes[index] for index in ranked if inside[query][index]],
            )
        )
    return answers
