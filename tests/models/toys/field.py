"""An image as a network of coordinates (in the line of hypernetwork SIRENs, 2006.09661).

A set encoder reads the seen pixels (coordinate, value); a hypernetwork emits a coordinate network
v(p) = W₂ sin(W₁ p + b₁) + b₂, which answers at any coordinate. Task weights: its four tensors.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.encoder_protocol import Encoder
from models.noise import Noise
from models.predictive import Field
from models.protocol import (
    Episodes,
    Losses,
    MetaLearner,
    Support,
    TaskWeights,
    Traits,
    refuse_prior,
)


class FieldConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    axes: int = 2
    target: int = 1
    hidden: int = 16
    width: int = 64


class ImageField(MetaLearner):
    Config = FieldConfig
    config: FieldConfig
    traits = Traits(representation="feed-forward")

    def __init__(self, encoder: Encoder, config: FieldConfig) -> None:
        super().__init__(encoder, config)
        hidden, width = config.hidden, config.width
        self.shapes = {
            "w1": (config.axes, hidden),
            "b1": (1, hidden),
            "w2": (hidden, config.target),
            "b2": (1, config.target),
        }
        self.sizes = [rows * columns for rows, columns in self.shapes.values()]
        self.h = nn.Sequential(
            nn.Linear(config.axes + config.target, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.hyper = nn.Sequential(
            nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, sum(self.sizes))
        )

    def embed(self, x: Float[Tensor, "n axes"]) -> Float[Tensor, "n axes"]:
        return x

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        assert support.targets is not None
        pixels = self.h(torch.cat((support.features, support.targets), -1)) * support.mask[..., None]
        flat = self.hyper(pixels.sum(1) / support.mask.sum(1, keepdim=True).clamp_min(1)).split(self.sizes, 1)
        task = {
            name: part.unflatten(1, self.shapes[name]) for name, part in zip(self.shapes, flat, strict=True)
        }
        return TaskWeights(task, {}, support.n_way, support.class_key, support.seed)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query axes"], noise: Noise | None = None
    ) -> Field:
        hidden = torch.sin(3 * (features @ weights.task["w1"] + weights.task["b1"]))
        return Field(hidden @ weights.task["w2"] + weights.task["b2"])

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        support = Support.of(episodes.support_x, episodes.support_y, mask=episodes.support_mask)
        error = (
            (self.predict(self.adapt(support), episodes.query_x).values - episodes.query_y).square().mean(-1)
        )
        real = episodes.query_mask
        return Losses(torch.where(real, error, 0.0).sum(1) / real.sum(1).clamp_min(1))
