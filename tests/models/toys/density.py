"""A conditional density by a flow (RegFlow, Zięba et al. 2020, 2011.14620), here affine: y = μ(x) + σ(x) z.

The support set is the conditioning input, without targets; queries are the points at which the density is
asked. Task weights: μ and log σ.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.encoder_protocol import Encoder
from models.noise import Noise
from models.predictive import Density
from models.protocol import (
    Episodes,
    Losses,
    MetaLearner,
    Support,
    TaskWeights,
    Traits,
    refuse_prior,
)


class FlowConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = 2
    target: int = 2
    width: int = 32


class AffineFlow(MetaLearner):
    Config = FlowConfig
    config: FlowConfig
    traits = Traits(representation="feed-forward")

    def __init__(self, encoder: Encoder, config: FlowConfig) -> None:
        super().__init__(encoder, config)
        self.hyper = nn.Sequential(
            nn.Linear(config.dim, config.width), nn.Tanh(), nn.Linear(config.width, 2 * config.target)
        )

    def embed(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return x

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        emitted = self.hyper(support.features) * support.mask[..., None]
        shift, log_scale = (emitted.sum(1) / support.mask.sum(1, keepdim=True).clamp_min(1)).chunk(2, -1)
        task = {"shift": shift, "log_scale": log_scale}
        return TaskWeights(task, {}, support.n_way, support.class_key, support.seed)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query target"], noise: Noise | None = None
    ) -> Density:
        shift, log_scale = weights.task["shift"][:, None], weights.task["log_scale"][:, None]
        z = (features - shift) * (-log_scale).exp()
        log_prob = (-0.5 * (z.square() + math.log(2 * math.pi)) - log_scale).sum(-1)
        if noise is None:
            return Density(log_prob)
        axis_key = torch.arange(1, shift.shape[-1] + 1, device=shift.device).expand(len(shift), -1)
        base = noise.normal(weights.seed, axis_key).transpose(1, 2)
        return Density(log_prob, shift + log_scale.exp() * base)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        support = Support.of(episodes.support_x, None, mask=episodes.support_mask)
        log_prob = self.predict(self.adapt(support), episodes.query_x).log_prob
        real = episodes.query_mask
        return Losses(-torch.where(real, log_prob, 0.0).sum(1) / real.sum(1).clamp_min(1))
