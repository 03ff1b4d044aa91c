"""A network for each stream task, and nothing forgotten: the upper bound of CL1, whose size grows with the tasks.

Where the task is not told, the network of lowest entropy answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor

from experiments.continual.baselines.continual_method import Answer, ContinualMethod, Setting, likelier
from experiments.continual.baselines.sequential_training import FineTune


class Separate(ContinualMethod):
    def __init__(self, setting: Setting, config: BaseModel) -> None:
        super().__init__(setting, config)
        self.parts: list[FineTune] = []

    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        self.begin(task)
        found = FineTune(_of_one(self.setting, task), self.Config())
        found.learn(0, x, y)
        self.parts.append(found)
        self.seen += 1

    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> Answer:
        if task is not None:
            return self.parts[task].predict(x, 0)
        flat = x.flatten(1)
        return likelier(torch.stack([part.network.answers(flat).log_softmax(-1) for part in self.parts]))

    def kept(self) -> Mapping[str, Tensor]:
        return {f"network {index}": part.network.flat for index, part in enumerate(self.parts)}


def _of_one(setting: Setting, task: int) -> Setting:
    return replace(setting, scenario="cl2", tasks=1, seed=setting.seed * setting.tasks + task)
