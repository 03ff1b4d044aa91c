"""Gaussian logits to probabilities by sampling: members, their mean, and their mean entropy."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.predictive import categorical_entropy

MOST_SAMPLED = 1 << 22
"""Numbers of one sampled tensor [tasks, query, way, samples]; larger requests are answered in parts."""


def sampled_log_probs(
    logits: Float[Tensor, "tasks query way"],
    deviation: Float[Tensor, "tasks query way"],
    draws: Float[Tensor, "tasks way samples"],
) -> Float[Tensor, "tasks query way samples"]:
    """Log-probabilities of each member: one draw per class and sample, shared by the queries of a task."""
    sampled = logits[..., None] + deviation[..., None] * draws[:, None]
    return sampled.log_softmax(-2)


def expectations(
    logits: Float[Tensor, "tasks query way"],
    deviation: Float[Tensor, "tasks query way"],
    draws: Float[Tensor, "tasks way samples"],
    present: Bool[Tensor, "tasks way"],
) -> tuple[Float[Tensor, "tasks query way"], Float[Tensor, "tasks query"]]:
    """Log of the mean probability, and the mean entropy, over the sampled members."""
    members = sampled_log_probs(logits, deviation, draws)
    return mean_log_probs(members, present), categorical_entropy(members.transpose(-1, -2)).mean(-1)


def mean_log_probs(
    members: Float[Tensor, "tasks query way samples"], present: Bool[Tensor, "tasks way"]
) -> Float[Tensor, "tasks query way"]:
    """Return the log of the mean probability; padding stays out of the sum, whose gradient is NaN there."""
    padding = ~present[:, None]
    finite = members.masked_fill(padding[..., None], 0.0)
    return (finite.logsumexp(-1) - math.log(members.shape[-1])).masked_fill(padding, -torch.inf)
