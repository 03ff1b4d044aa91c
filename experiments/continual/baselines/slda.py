"""Streaming linear discriminant analysis (Hayes & Kanan 2020, 1909.01520): class means and one shrunk covariance.

score of class c = μ_cᵀ Λ x - μ_cᵀ Λ μ_c / 2,  Λ = ((1 - ε) Σ + ε I)⁻¹

Σ is the running covariance of examples about the means of their classes. Nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from experiments.continual.baselines.continual_method import (
    ComparisonSetting,
    ContinualMethod,
    ContinualPrediction,
)
from experiments.continual.baselines.stream_learners import feature_shape, with_channels

_BATCH = 512


class SldaConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    shrinkage: float = Field(default=1e-4, gt=0, lt=1)
    """ε; the published value."""


class Slda(ContinualMethod):
    """`slda`: on pixels, or on the features of the encoder."""

    Config = SldaConfig
    takes_encoder = True

    def __init__(self, setting: ComparisonSetting, config: BaseModel) -> None:
        super().__init__(setting, config)
        assert isinstance(config, SldaConfig)
        self.shrinkage = config.shrinkage
        size = int(torch.Size(feature_shape(setting)).numel())
        self.means = torch.zeros(setting.outputs, size, dtype=torch.float64)
        self.counts = torch.zeros(setting.outputs, dtype=torch.float64)
        self.scatter = torch.zeros(size, size, dtype=torch.float64)

    def learn(self, task: int, x: Float[Tensor, "n *pixels"], y: Int[Tensor, "n"]) -> None:
        self.begin(task)
        features, classes = self._features(x), y.cpu() + self.setting.head_of(task).start
        for label in classes.unique().tolist():
            rows = features[classes == label]
            mean, before, count = rows.mean(0), self.counts[label], len(rows)
            centred = rows - mean
            moved = mean - self.means[label]
            self.scatter += centred.T @ centred + torch.outer(moved, moved) * (
                before * count / (before + count)
            )
            self.means[label] += moved * (count / (before + count))
            self.counts[label] += count
        self.seen += 1

    def predict(self, x: Float[Tensor, "n *pixels"], task: int | None) -> ContinualPrediction:
        heads = self.setting.active(0, self.seen - 1) if task is None else self.setting.head_of(task)
        size = len(self.scatter)
        covariance = (1 - self.shrinkage) * self.scatter / self.counts.sum()
        covariance = covariance + self.shrinkage * torch.eye(size, dtype=torch.float64)
        means = self.means[heads]
        rows = torch.linalg.solve(covariance, means.T)
        best = (self._features(x) @ rows - (means.T * rows).sum(0) / 2).argmax(1).to(x.device)
        if task is not None or self.setting.scenario == "cl2":
            return ContinualPrediction(best)
        return ContinualPrediction(best % self.setting.way, best // self.setting.way)

    def stored(self) -> Mapping[str, Tensor]:
        return {"means": self.means, "counts": self.counts, "scatter": self.scatter}

    @torch.no_grad()
    def _features(self, x: Float[Tensor, "n *pixels"]) -> Float[Tensor, "n f"]:
        if self.setting.encoder is None:
            return x.flatten(1).cpu().double()
        parts = [self.setting.encoder(part).flatten(1) for part in with_channels(x).split(_BATCH)]
        return torch.cat(parts).cpu().double()
