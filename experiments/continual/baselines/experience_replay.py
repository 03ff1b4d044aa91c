"""Experience replay: some examples of each class stay, and are learned along (1902.10486). Not free of data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.continual_method import Setting
from experiments.continual.baselines.sequential_training import FineTune


class ReplayConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    per_class: int = Field(default=20, ge=1)
    """Examples kept of each class of each stream task."""


class Replay(FineTune):
    """A batch of kept examples beside each batch; stream task t weighs 1/t, those before it the rest."""

    Config = ReplayConfig

    def __init__(self, setting: Setting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, ReplayConfig)
        self.config = config
        self.kept_x = torch.zeros(0, setting.inputs, device=setting.device)
        self.kept_y = torch.zeros(0, dtype=torch.long, device=setting.device)
        self.kept_task = torch.zeros(0, dtype=torch.long, device=setting.device)

    def kept(self) -> Mapping[str, Tensor]:
        return {**super().kept(), "x": self.kept_x, "y": self.kept_y, "task": self.kept_task}

    def losses(self, task: int, x: Float[Tensor, "batch d"], y: Int[Tensor, "batch"]) -> Float[Tensor, ""]:
        loss = self.loss(task, x, y)
        if not task:
            return loss
        rows = torch.randint(len(self.kept_y), (self.setting.batch,), generator=self.generator)
        logits, of = self.logits(self.kept_x[rows]), self.kept_task[rows]
        if self.setting.scenario == "cl1":
            logits = logits.unflatten(1, (self.setting.tasks, self.setting.way))
            logits = logits[torch.arange(len(of)), of]
        else:
            logits = logits[:, self.setting.active(task, task)]
        offset = of * self.setting.way if self.setting.scenario == "cl3" else torch.zeros_like(of)
        share = 1 / (task + 1)
        return share * loss + (1 - share) * F.cross_entropy(logits, self.kept_y[rows] + offset)

    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        order = torch.randperm(len(y), generator=self.generator).to(y.device)
        chosen = torch.cat([order[y[order] == label][: self.config.per_class] for label in y.unique()])
        self.kept_x = torch.cat((self.kept_x, x[chosen]))
        self.kept_y = torch.cat((self.kept_y, y[chosen]))
        self.kept_task = torch.cat((self.kept_task, torch.full_like(y[chosen], task)))
