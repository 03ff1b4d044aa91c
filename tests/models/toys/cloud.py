"""A point cloud as a network of base noise (HyperCloud, Spurek et al. 2020, 2003.00802).

The support set is points without targets; a set encoder and a hypernetwork emit the map
x(z) = A z + V tanh(U z) + b. Queries are base noise, answers are points. Task weights: A, U, V, b.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
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


class CloudConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    axes: int = 2
    hidden: int = 4
    width: int = 64


class PointCloud(MetaLearner):
    Config = CloudConfig
    config: CloudConfig
    traits = Traits(representation="feed-forward")

    def __init__(self, encoder: Encoder, config: CloudConfig) -> None:
        super().__init__(encoder, config)
        axes, hidden, width = config.axes, config.hidden, config.width
        self.shapes = {"a": (axes, axes), "u": (axes, hidden), "v": (hidden, axes), "b": (1, axes)}
        self.sizes = [rows * columns for rows, columns in self.shapes.values()]
        self.h = nn.Sequential(nn.Linear(axes, width), nn.ReLU(), nn.Linear(width, width))
        self.hyper = nn.Sequential(nn.ReLU(), nn.Linear(width, sum(self.sizes)))

    def embed(self, x: Float[Tensor, "n axes"]) -> Float[Tensor, "n axes"]:
        return x

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        points = self.h(support.features) * support.mask[..., None]
        flat = self.hyper(points.sum(1) / support.mask.sum(1, keepdim=True).clamp_min(1)).split(self.sizes, 1)
        task = {
            name: part.unflatten(1, self.shapes[name]) for name, part in zip(self.shapes, flat, strict=True)
        }
        return TaskWeights(task, {}, support.n_way, support.class_key, support.seed)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query axes"], noise: Noise | None = None
    ) -> Field:
        task = weights.task
        return Field(features @ task["a"] + torch.tanh(features @ task["u"]) @ task["v"] + task["b"])

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        support = Support.of(episodes.support_x, None, mask=episodes.support_mask)
        made = self.predict(self.adapt(support), episodes.query_x).values
        return Losses(energy_distance(made, episodes.query_y, episodes.query_mask))


def energy_distance(
    x: Float[Tensor, "tasks n axes"], y: Float[Tensor, "tasks n axes"], real: Bool[Tensor, "tasks n"]
) -> Float[Tensor, "tasks"]:
    """2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖: 0 where the two clouds have one distribution."""
    pairs = (real[:, :, None] & real[:, None]).to(x)

    def mean_distance(p: Tensor, q: Tensor) -> Tensor:
        distance = ((p[:, :, None] - q[:, None]).square().sum(-1) + 1e-12).sqrt()
        return (distance * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)

    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)
