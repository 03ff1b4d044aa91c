"""Scores of probabilistic answers. All take flat arrays of queries unless they say otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ECE_BINS = 15


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` tasks with the half-width of its 95 % confidence interval."""

    mean: float
    ci95: float
    n: int

    @classmethod
    def over(cls, values: Float[Tensor, "tasks"]) -> Estimate:
        n = len(values)
        spread = float(values.double().std()) if n > 1 else math.nan
        return cls(float(values.double().mean()), 1.96 * spread / math.sqrt(n), n)


def calibration_error(confidence: Float[Tensor, "n"], right: Bool[Tensor, "n"]) -> float:
    """Expected calibration error over 15 bins of equal width (Naeini 2015; Guo 2017)."""
    index = bin_of(confidence)
    gap = torch.zeros(ECE_BINS, dtype=torch.double)
    gap.index_add_(0, index, right.double() - confidence.double())
    return float(gap.abs().sum() / len(confidence))


def bin_of(confidence: Float[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Which of the bins of the calibration error each confidence falls in."""
    return (confidence * ECE_BINS).long().clamp(0, ECE_BINS - 1)


def brier(probabilities: Float[Tensor, "n way"], target: Int[Tensor, "n"]) -> float:
    """Mean squared distance to the one-hot answer, summed over classes."""
    hot = torch.nn.functional.one_hot(target, probabilities.shape[-1])
    return float((probabilities - hot).square().sum(-1).mean())


def auroc(score: Float[Tensor, "n"], positive: Bool[Tensor, "n"]) -> float:
    """P(score of a positive > score of a negative), ties at half (Mann-Whitney)."""
    _, inverse, counts = score.double().unique(return_inverse=True, return_counts=True)
    upper = counts.cumsum(0).double()
    rank = (upper - (counts.double() - 1) / 2)[inverse]
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return math.nan
    above = rank[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def spearman(a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> float:
    """Rank correlation."""
    ranks = [x.argsort().argsort().double() for x in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])
