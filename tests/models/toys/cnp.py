"""Conditional neural process (Garnelo et al. 2018, 1807.01613).

The context becomes r = mean of h(x_i, y_i); the answer at x is N(μ(x, r), σ²(x, r)). Task weights: the sum
of h over the context and its size, so more context is one addition.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoders.base import Encoder
from models.noise import Noise
from models.predictive import Gaussian
from models.protocol import Episodes, Losses, MetaLearner, Support, TaskWeights, Traits

_MIN_VARIANCE = 1e-3


class CnpConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = 1
    target: int = 1
    width: int = 32


class Cnp(MetaLearner):
    Config = CnpConfig
    traits = Traits(incremental=True, representation="feed-forward")

    def __init__(self, encoder: Encoder, config: CnpConfig) -> None:
        super().__init__()
        width = config.width
        self.encoder = encoder
        self.h = nn.Sequential(
            nn.Linear(config.dim + config.target, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.g = nn.Sequential(
            nn.Linear(config.dim + width, width), nn.ReLU(), nn.Linear(width, 2 * config.target)
        )

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n d"]:
        features: Tensor = self.encoder(x)
        return features

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        assert support.targets is not None
        terms = self.h(torch.cat((support.features, support.targets), -1)) * support.mask[..., None]
        context, size = terms.sum(1), support.mask.sum(1).to(terms)
        if prior is not None:
            context, size = context + prior.task["context"], size + prior.task["size"]
        return TaskWeights(
            {"context": context, "size": size}, {}, support.n_way, support.class_key, support.seed
        )

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Gaussian:
        r = weights.task["context"] / weights.task["size"].clamp_min(1)[:, None]
        joined = torch.cat((features, r[:, None].expand(-1, features.shape[1], -1)), -1)
        mean, raw = self.g(joined).chunk(2, -1)
        return Gaussian(mean, _MIN_VARIANCE + F.softplus(raw))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        support = Support.of(episodes.support_x, episodes.support_y, mask=episodes.support_mask)
        nll = -self.predict(self.adapt(support), episodes.query_x).log_prob(episodes.query_y)
        real = episodes.query_mask
        return Losses(torch.where(real, nll, 0.0).sum(1) / real.sum(1).clamp_min(1))
