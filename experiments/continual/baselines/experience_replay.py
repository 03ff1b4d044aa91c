"""Experience replay (1902.10486): some examples of each class are stored and trained on again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.sequential_training import SequentialTraining


class ReplayConfig(BaseModel):
    """Hyperparameters of experience replay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_class: int = Field(default=20, ge=1)
    """Examples stored of each class of each stream task."""


class ExperienceReplay(SequentialTraining):
    """Training with a batch of stored examples beside each batch.

    Stream task t has weight 1/t, all earlier ones have the rest.
    """

    Config = ReplayConfig

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, ReplayConfig)
        self.config = config
        self.stored_x = torch.zeros(0, setting.inputs, device=setting.device)
        self.stored_y = torch.zeros(0, dtype=torch.long, device=setting.device)
        self.stored_task = torch.zeros(0, dtype=torch.long, device=setting.device)

    def stored(self) -> Mapping[str, Tensor]:
        return {**super().stored(), "x": self.stored_x, "y": self.stored_y, "task": self.stored_task}

    def losses(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        loss = self.loss(task, x, y)
        if not task:
            return loss
        rows = torch.randint(len(self.stored_y), (self.setting.batch,), generator=self.generator)
        logits, tasks = self.logits(self.stored_x[rows]), self.stored_task[rows]
        if self.setting.scenario == "cl1":
            logits = logits.unflatten(1, (self.setting.tasks, self.setting.way))
            logits = logits[torch.arange(len(tasks)), tasks]
        else:
            logits = logits[:, self.setting.active(task, task)]
        offset = tasks * self.setting.way if self.setting.scenario == "cl3" else torch.zeros_like(tasks)
        share = 1 / (task + 1)
        return share * loss + (1 - share) * F.cross_entropy(logits, self.stored_y[rows] + offset)

    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        order = torch.randperm(len(y), generator=self.generator).to(y.device)
        chosen = torch.cat([order[y[order] == label][: self.config.per_class] for label in y.unique()])
        self.stored_x = torch.cat((self.stored_x, x[chosen]))
        self.stored_y = torch.cat((self.stored_y, y[chosen]))
        self.stored_task = torch.cat((self.stored_task, torch.full_like(y[chosen], task)))
