"""Online elastic weight consolidation (1612.00796; 1805.06370): λ/2 Σ F̃ (θ − θ*)², F̃ ← γ F̃ + F.

F is the diagonal of the empirical Fisher matrix at the end of a stream task, from per-example gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.sequential_training import SequentialTraining


class EwcConfig(BaseModel):
    """Hyperparameters of online EWC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(default=5000.0, ge=0)
    """λ."""
    decay: float = Field(default=1.0, ge=0, le=1)
    """γ."""


class Ewc(SequentialTraining):
    """Online elastic weight consolidation."""

    Config = EwcConfig

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, EwcConfig)
        self.config = config
        self.fisher = torch.zeros_like(self.network.grad)
        self.anchor = self.network.flat.detach().clone()

    def stored(self) -> Mapping[str, Tensor]:
        return {**super().stored(), "fisher": self.fisher, "anchor": self.anchor}

    def penalty(self) -> Float[Tensor, ""]:
        """Return the value of the penalty, whose gradient `step` adds in closed form."""
        moved = self.network.flat.detach() - self.anchor
        return self.config.strength / 2 * (self.fisher * moved.square()).sum()

    @torch.no_grad()
    def step(self, optimisers: list[torch.optim.Optimizer]) -> None:
        if self.seen:
            moved = self.network.flat - self.anchor
            self.network.grad.addcmul_(self.fisher, moved, value=self.config.strength)
        super().step(optimisers)

    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        found = self.network.fisher(x, self.setting.indices(task, y), self.setting.active(task, task))
        self.fisher = self.config.decay * self.fisher + found
        self.anchor = self.network.flat.detach().clone()
