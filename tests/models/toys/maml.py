"""MAML (Finn, Abbeel, Levine 2017, 1703.03400) with one head row shared by all classes at the start.

Everything adapts, so features are inputs. Task weights: the body after the inner steps, a head row per class.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from models.encoder_protocol import Encoder
from models.fewshot.common.classification import cross_entropy, embed_episodes
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import (
    Episodes,
    Losses,
    MetaLearner,
    Support,
    TaskWeights,
    Traits,
    refuse_prior,
)

FastWeights = dict[str, Tensor]


class MamlConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = 8
    width: int = 16
    inner_lr: float = 0.5
    inner_steps: int = 3


class Maml(MetaLearner):
    Config = MamlConfig
    config: MamlConfig
    traits = Traits(representation="initialisation")

    def __init__(self, encoder: Encoder, config: MamlConfig) -> None:
        super().__init__(encoder, config)
        self.body = nn.Sequential(nn.Linear(config.dim, config.width), nn.Tanh())
        self.row = nn.Parameter(torch.zeros(config.width))

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *input"]:
        return x

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        assert support.targets is not None
        tasks, way = support.class_key.shape
        fast = {name: value.expand(tasks, *value.shape) for name, value in self.body.named_parameters()}
        fast["row"] = self.row.expand(tasks, way, -1)
        gradient = vmap(grad(self._inner_loss))
        for _ in range(self.config.inner_steps):
            step = gradient(fast, support.features, support.targets, support.mask, support.class_mask)
            fast = {name: value - self.config.inner_lr * step[name] for name, value in fast.items()}
        rows = {"row": fast.pop("row")}
        return TaskWeights(fast, rows, support.n_way, support.class_key, support.seed)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        fast = {**weights.task, "row": weights.rows["row"]}
        return Categorical(vmap(self._log_probs)(fast, features, weights.class_mask))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        embedded = embed_episodes(self.embed, episodes)
        answer = self.predict(self.adapt(embedded.support), embedded.query)
        return Losses(cross_entropy(answer.log_probs, embedded.target, embedded.known))

    def _log_probs(
        self, fast: FastWeights, x: Float[Tensor, "n d"], present: Bool[Tensor, "way"]
    ) -> Float[Tensor, "n way"]:
        body = {name: value for name, value in fast.items() if name != "row"}
        logits: Tensor = functional_call(self.body, body, (x,)) @ fast["row"].T
        return logits.masked_fill(~present, -torch.inf).log_softmax(-1)

    def _inner_loss(
        self,
        fast: FastWeights,
        x: Float[Tensor, "n d"],
        y: Int[Tensor, "n"],
        real: Bool[Tensor, "n"],
        present: Bool[Tensor, "way"],
    ) -> Float[Tensor, ""]:
        picked = self._log_probs(fast, x, present).gather(1, y[:, None])[:, 0]
        return -(torch.where(real, picked, 0.0).sum() / real.sum().clamp_min(1))
