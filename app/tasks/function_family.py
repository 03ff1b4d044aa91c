"""Warnings about tasks outside the one family of functions that a learner was trained on, such as sinusoids.

A learner of one family answers anything with a member of it, and its intervals hold there only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from app.http.problems import pointer
from app.payloads.support import SubmittedInput
from app.payloads.warnings import WARNINGS_MAX
from app.serving.engine import Engine
from app.serving.engine_types import SupportSet
from hyperserve.types import Notice
from models.artifact import Artifact
from models.data.functions import Sinusoids
from models.predictive import Gaussian
from models.protocol import TaskWeights

_RANGES = {"sinusoids": (Sinusoids.low, Sinusoids.high)}
"""The inputs of functions of one family, by the data set of a training."""
_MOST_DEVIATIONS = 2.5
"""Root mean square of the errors on the support set, in deviations of the answers, from which on it is foreign.

On validation tasks of 5 to 20 examples each of the three bundled learners exceeds it in at most 1 %; `sinusoid` has at
least 3.9 (5th percentile) at ten examples of lines, parabolas, other frequencies, offsets of 2 or noise of 0.1.
"""


def range_warnings(
    artifact: Artifact, submitted: Sequence[SubmittedInput], x: npt.NDArray[np.float32]
) -> list[Notice]:
    """Return the first few warnings about inputs outside those that the learner was trained on."""
    bounds = _range(artifact)
    if bounds is None:
        return []
    low, high = bounds
    outside = np.any((x < low) | (x > high), axis=tuple(range(1, x.ndim)))
    detail = (
        f"{artifact.name} was trained on inputs in [{low:g}, {high:g}]: beyond, its intervals do not hold."
    )
    return [
        Notice(code="outside_training_range", detail=detail, pointer=pointer(one.location))
        for one in islice((submitted[index] for index in np.flatnonzero(outside).tolist()), WARNINGS_MAX)
    ]


async def misfit_warnings(
    engine: Engine, artifact: Artifact, weights: TaskWeights, support: SupportSet
) -> list[Notice]:
    """Return a warning if the learner's answers to its own examples miss by more than their uncertainty allows."""
    if _range(artifact) is None or support.y is None:
        return []
    answers = await engine.predict_once(artifact.name, weights, support.x, samples=0)
    answer = answers.predictive
    assert isinstance(answer, Gaussian)
    variance = answer.aleatoric[0] if answer.epistemic is None else (answer.aleatoric + answer.epistemic)[0]
    error = answer.mean[0].numpy() - support.y
    deviations = float(np.sqrt(np.mean(error**2 / variance.numpy())))
    if deviations <= _MOST_DEVIATIONS:
        return []
    detail = (
        f"The examples are unlike the functions that {artifact.name} was trained on: it misses them by "
        f"{deviations:.3g} of its standard deviations. Its intervals do not hold here; the default learner for "
        "regression takes any function."
    )
    return [Notice(code="unlike_training", detail=detail, pointer="/support")]


def _range(artifact: Artifact) -> tuple[float, float] | None:
    return _RANGES.get(str(artifact.config.training.get("dataset")))
