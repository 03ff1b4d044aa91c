"""Helpers of linear classifiers: task weights of a row and an offset per class, and calibrated answers.

Logits are w_c·f(q) + b_c. `unknown` follows from the largest of them (MaxLogit, Hendrycks et al. 2022, 1911.11132):
a query without a high logit is likely to belong to no class. Deterministic: there is no epistemic part.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from models.bayes.calibration import Calibration, task_terms
from models.fewshot.common.classification import class_members
from models.predictive import Categorical
from models.protocol import Support, TaskWeights


def linear_weights(
    support: Support,
    weight: Float[Tensor, "tasks way d"],
    bias: Float[Tensor, "tasks way"],
    task: dict[str, Tensor] | None = None,
) -> TaskWeights:
    """Return task weights of a linear classifier; padding rows become 0."""
    blank = ~support.class_mask
    shots = class_members(support).sum(1)
    return TaskWeights(
        task={**(task or {}), "terms": task_terms(support.n_way, shots)},
        rows={"weight": weight.masked_fill(blank[..., None], 0), "bias": bias.masked_fill(blank, 0)},
        n_way=support.n_way,
        class_key=support.class_key,
        seed=support.seed,
    )


def linear_logits(
    weights: TaskWeights, features: Float[Tensor, "tasks query d"]
) -> Float[Tensor, "tasks query way"]:
    """Return the logits; −∞ on padding."""
    logits = features @ weights.rows["weight"].transpose(1, 2) + weights.rows["bias"][:, None]
    return logits.masked_fill(~weights.class_mask[:, None], -torch.inf)


def answer(
    calibration: Calibration, weights: TaskWeights, logits: Float[Tensor, "tasks query way"]
) -> Categorical:
    """Return calibrated probabilities of logits that are −∞ on padding."""
    terms = weights.task["terms"]
    novelty = -logits.amax(-1)
    sharpness = calibration.inverse_temperature(terms)[:, None, None]
    return Categorical(
        (logits * sharpness).log_softmax(-1),
        unknown=calibration.unknown(novelty, terms),
        set_levels=calibration.set_levels(terms),
        novelty=novelty,
    )
