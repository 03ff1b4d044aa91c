"""Calibration of probabilities: temperature, `unknown`, and the level of prediction sets.

All are small functions of the task (log way, mean log shot, statistics of its support set), fitted on
validation *tasks* by `models.evaluation.calibrate` and stored with the learner. Before fitting they change
nothing: temperature 1, no `unknown`, sets of plain probability mass.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

STATISTICS = 2
TASK_TERMS = 5 + STATISTICS
"""1, log way, mean log shot, 1/shot, log way/shot, and the learner's own statistics of the support set."""
UNKNOWN_TERMS = TASK_TERMS + 1
WAY_EDGES = (2, 4, 8, 16, 32)
SHOT_EDGES = (1, 2, 4, 8)
"""Lower edges of the bins of prediction sets: way by geometric mean shot."""
LEVELS = 201


class Calibration(nn.Module):
    """Fitted functions of the task, held as buffers."""

    temperature: Tensor
    epistemic: Tensor
    unknown_weight: Tensor
    has_unknown: Tensor
    set_quantiles: Tensor
    has_sets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.zeros(TASK_TERMS))
        self.register_buffer("epistemic", torch.zeros(TASK_TERMS))
        self.register_buffer("unknown_weight", torch.zeros(UNKNOWN_TERMS))
        self.register_buffer("has_unknown", torch.zeros((), dtype=torch.bool))
        self.register_buffer("set_quantiles", torch.zeros(len(WAY_EDGES), len(SHOT_EDGES), LEVELS))
        self.register_buffer("has_sets", torch.zeros((), dtype=torch.bool))

    def inverse_temperature(self, terms: Float[Tensor, "tasks terms"]) -> Float[Tensor, "tasks"]:
        return (-(terms @ self.temperature)).exp()

    def spread(self, terms: Float[Tensor, "tasks terms"]) -> Float[Tensor, "tasks"]:
        """Return the factor on the standard deviation of sampled logits."""
        return (terms @ self.epistemic).exp()

    def unknown(
        self, score: Float[Tensor, "tasks query"], terms: Float[Tensor, "tasks terms"]
    ) -> Float[Tensor, "tasks query"] | None:
        """Return P(foreign | query, support) at prior ½ from a score of strangeness; None before fitting."""
        if not self.has_unknown:
            return None
        slope, offset = self.unknown_weight[0], terms @ self.unknown_weight[1:]
        return torch.sigmoid(slope * score + offset[:, None])

    def set_levels(self, terms: Float[Tensor, "tasks terms"]) -> Float[Tensor, "tasks levels"] | None:
        """Probability mass at which prediction sets stop, by coverage: conformal quantiles of the task's bin."""
        if not self.has_sets:
            return None
        way, shot = bins(terms)
        return self.set_quantiles[way, shot]


def task_terms(
    n_way: Int[Tensor, "tasks"],
    shots: Float[Tensor, "tasks way"],
    statistics: Float[Tensor, "tasks statistics"] | None = None,
) -> Float[Tensor, "tasks terms"]:
    """Return the terms of each task. `shots` is 0 on padding; that of an uneven task is the geometric mean."""
    present = shots > 0
    log_shot = shots.clamp_min(1).log().sum(1) / present.sum(1).clamp_min(1)
    if statistics is None:
        statistics = log_shot.new_zeros(len(log_shot), STATISTICS)
    one, log_way, rarity = torch.ones_like(log_shot), n_way.to(log_shot).log(), (-log_shot).exp()
    return torch.cat(
        (torch.stack((one, log_way, log_shot, rarity, log_way * rarity), dim=1), statistics), dim=1
    )


def bins(terms: Float[Tensor, "tasks terms"]) -> tuple[Int[Tensor, "tasks"], Int[Tensor, "tasks"]]:
    """Return the bins of way and shot that each task falls in."""
    way, shot = terms[:, 1].exp() + 1e-3, terms[:, 2].exp() + 1e-3
    return tuple(
        torch.bucketize(value, torch.tensor(edges, dtype=value.dtype, device=value.device), right=True)
        .sub(1)
        .clamp_min(0)
        for value, edges in ((way, WAY_EDGES), (shot, SHOT_EDGES))
    )  # type: ignore[return-value]
