"""JointTraining training on all stream tasks so far: the accuracy that a single network could reach if data were
stored."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.sequential_training import SequentialTraining


class JointTraining(SequentialTraining):
    """Training with two batches per step: one of the new stream task, and one of a randomly chosen earlier task."""

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        self.before: list[tuple[Tensor, Tensor]] = []

    def stored(self) -> Mapping[str, Tensor]:
        return {**super().stored(), **{f"data {index}": x for index, (x, _) in enumerate(self.before)}}

    def losses(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        loss = self.loss(task, x, y)
        if not task:
            return loss
        other = int(torch.randint(task, (1,), generator=self.generator))
        old_x, old_y = self.before[other]
        rows = torch.randint(len(old_y), (len(y),), generator=self.generator)
        share = 1 / (task + 1)
        return share * loss + (1 - share) * self.loss(other, old_x[rows], old_y[rows])

    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        self.before.append((x, y))
