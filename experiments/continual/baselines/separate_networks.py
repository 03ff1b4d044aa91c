"""A separate network for each stream task: the upper bound of CL1, without forgetting, whose size grows with the tasks.

If the task is not given, the network with the lowest entropy predicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor

from experiments.continual.baselines.continual_method import (
    ComparisonSetting,
    ContinualMethod,
    ContinualPrediction,
    most_certain,
)
from experiments.continual.baselines.sequential_training import SequentialTraining


class SeparateNetworks(ContinualMethod):
    """One network per stream task."""

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        self.parts: list[SequentialTraining] = []

    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        self.begin(task)
        network = SequentialTraining(_single_task(self.setting, task), self.Config())
        network.learn(0, x, y)
        self.parts.append(network)
        self.seen += 1

    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> ContinualPrediction:
        if task is not None:
            return self.parts[task].predict(x, 0)
        flat = x.flatten(1)
        return most_certain(
            torch.stack([part.network.outputs_of(flat).log_softmax(-1) for part in self.parts])
        )

    def stored(self) -> Mapping[str, Tensor]:
        return {f"network {index}": part.network.flat for index, part in enumerate(self.parts)}


def _single_task(setting: ComparisonSetting, task: int) -> ComparisonSetting:
    return replace(setting, scenario="cl2", tasks=1, seed=setting.seed * setting.tasks + task)
