"""Calibration and selective prediction over the queries of many tasks.

All figures are over the queries of all tasks together; tasks have equally many queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.evaluation import scores
from models.evaluation.episodic import Batch

FRACTIONS = (1.0, 0.9, 0.8, 0.5)


@dataclass(frozen=True)
class PredictedQueries:
    """Predictions of known queries, flat: confidence, and if the predicted label was right."""

    confidence: Float[Tensor, "n"]
    right: Bool[Tensor, "n"]

    @classmethod
    def from_batches(cls, batches: list[Batch]) -> PredictedQueries:
        """Collect the known queries of all batches."""
        confidence, right = [], []
        for batch in batches:
            best, label = batch.answer.probabilities.max(-1)
            confidence.append(best[batch.known])
            right.append((label == batch.target)[batch.known])
        return cls(torch.cat(confidence), torch.cat(right))


def selective(queries: Queries) -> list[dict[str, float]]:
    """Return the accuracy on the most confident share of the queries (El-Yaniv, Wiener 2010)."""
    order = queries.confidence.argsort(descending=True, stable=True)
    right = queries.right[order].double()
    counts = (max(1, round(fraction * len(right))) for fraction in FRACTIONS)
    return [
        {"answered": fraction, "accuracy": float(right[:count].mean())}
        for fraction, count in zip(FRACTIONS, counts, strict=True)
    ]


def reliability(queries: Queries) -> list[dict[str, Any]]:
    """Return share of queries, mean confidence and accuracy (None if empty) of each bin of the calibration error."""
    bins = scores.ECE_BINS
    index = scores.confidence_bins(queries.confidence)
    count = torch.bincount(index, minlength=bins).double()
    sums = [
        torch.zeros(bins, dtype=torch.double).index_add_(0, index, value.double())
        for value in (queries.confidence, queries.right)
    ]
    confidence, accuracy = ((total / count.clamp_min(1)).tolist() for total in sums)
    return [
        {
            "share": float(count[one] / count.sum()),
            "confidence": confidence[one] if count[one] else None,
            "accuracy": accuracy[one] if count[one] else None,
        }
        for one in range(bins)
    ]
