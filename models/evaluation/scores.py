"""Scores of probabilistic predictions, over flat arrays of queries.

Rank statistics are computed by scipy, imported on first use: `scipy.stats` takes half a second to load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ECE_BINS = 15


@dataclass(frozen=True)
class MeanEstimate:
    """A mean over `n` tasks, and the half-width of its 95 % confidence interval."""

    mean: float
    ci95: float
    n: int

    @classmethod
    def over(cls, values: Float[Tensor, "tasks"]) -> MeanEstimate:
        """Return the estimate from the values of all tasks."""
        n = len(values)
        spread = float(values.double().std()) if n > 1 else math.nan
        return cls(float(values.double().mean()), 1.96 * spread / math.sqrt(n), n)


def calibration_error(confidence: Float[Tensor, "n"], right: Bool[Tensor, "n"]) -> float:
    """Return the expected calibration error over 15 bins of equal width (Naeini 2015; Guo 2017)."""
    gap = torch.zeros(ECE_BINS, dtype=torch.double)
    gap.index_add_(0, confidence_bins(confidence), right.double() - confidence.double())
    return float(gap.abs().sum() / len(confidence))


def confidence_bins(confidence: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Return the index of the bin of the calibration error into which each confidence falls."""
    return (confidence * ECE_BINS).long().clamp(0, ECE_BINS - 1)


def brier(probabilities: Float[Tensor, "n way"], target: Int[Tensor, "n"]) -> float:
    """Return the mean squared distance to the one-hot target, summed over classes."""
    hot = torch.nn.functional.one_hot(target, probabilities.shape[-1])
    return float((probabilities - hot).square().sum(-1).mean())


def auroc(score: Float[Tensor, "n"], positive: Bool[Tensor, "n"]) -> float:
    """Return P(score of a positive > score of a negative), counting ties as half; NaN if either kind is missing."""
    from scipy.stats import mannwhitneyu

    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return math.nan
    values = score.double().numpy()
    flags = positive.numpy()
    u = mannwhitneyu(values[flags], values[~flags], method="asymptotic").statistic
    return float(u / (n_positive * n_negative))


def spearman(a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> float:
    """Return the rank correlation, tied values sharing their mean rank; NaN if either argument is constant."""
    from scipy.stats import spearmanr

    if a.unique().numel() < 2 or b.unique().numel() < 2:
        return math.nan
    return float(spearmanr(a.numpy(), b.numpy()).statistic)
