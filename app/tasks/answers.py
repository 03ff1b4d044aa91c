"""From predictive distributions to answers on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from app.http.problems import fail
from hyperserve.types import Prediction
from models.predictive import Categorical, Predictive


def predictions(
    predictive: Predictive, classes: Sequence[str], *, coverage: float, top: int | None
) -> list[Prediction]:
    """Of a batch of one task. `label` is the argmax; with `top`, classes stand in falling order."""
    if not isinstance(predictive, Categorical):
        raise NotImplementedError(f"answers of kind {type(predictive).__name__} have no place on this route")
    log_probs = predictive.log_probs[0].double()
    probabilities = log_probs.exp() / log_probs.exp().sum(-1, keepdim=True)
    if not bool(probabilities.isfinite().all()):
        raise fail("numerical_overflow", "The answers are not finite; scale the inputs down.", "/queries")
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
