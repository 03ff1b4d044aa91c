"""Synaptic intelligence (1703.04200): penalty c Σ Ω (θ − θ*)², Ω ← Ω + ω / (Δ² + ξ), ω = Σ over steps −g·δθ.

g is the gradient of the stream task's loss without the penalty, δθ the step taken, Δ the change of a parameter over the
whole stream task.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from experiments.continual.baselines.continual_method import ComparisonSetting
from experiments.continual.baselines.sequential_training import SequentialTraining


class SiConfig(BaseModel):
    """Hyperparameters of synaptic intelligence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: float = Field(default=10.0, ge=0)
    """c."""
    damping: float = Field(default=0.1, gt=0)
    """ξ."""


class Si(SequentialTraining):
    """Synaptic intelligence."""

    Config = SiConfig

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, SiConfig)
        self.config = config
        self.importance = torch.zeros_like(self.network.grad)
        self.anchor = self.network.flat.detach().clone()
        self.path = torch.zeros_like(self.network.grad)

    def stored(self) -> Mapping[str, Tensor]:
        return {**super().stored(), "importance": self.importance, "anchor": self.anchor}

    @torch.no_grad()
    def step(self, optimisers: list[torch.optim.Optimizer]) -> None:
        network = self.network
        gradient, before = network.grad.clone(), network.flat.detach().clone()
        if self.seen:
            network.grad.addcmul_(self.importance, before - self.anchor, value=2 * self.config.strength)
        super().step(optimisers)
        self.path.addcmul_(gradient, network.flat - before, value=-1.0)

    @torch.no_grad()
    def finish(self, task: int, x: Float[Tensor, "n d"], y: Int[Tensor, "n"]) -> None:
        moved = self.network.flat - self.anchor
        self.importance = self.importance + self.path / (moved.square() + self.config.damping)
        self.anchor = self.network.flat.detach().clone()
        self.path.zero_()
