"""A stream memory (in the line of MANN 1605.06065 and fast weights): examples are written one after another.

The delta rule m_c += β (1[y = c] − m_c·k) k, with key k = Wx / ‖Wx‖, corrects what would have been recalled.
Order matters; queries read and never write. Task weights: a memory row per class.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoder_protocol import Encoder
from models.fewshot.common.classification import class_members, cross_entropy, embed_episodes
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Episodes, Losses, MetaLearner, Support, TaskWeights, Traits


class MemoryConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = 8
    width: int = 12


class StreamMemory(MetaLearner):
    Config = MemoryConfig
    config: MemoryConfig
    traits = Traits(order_dependent=True, incremental=True, representation="black-box memory")

    def __init__(self, encoder: Encoder, config: MemoryConfig) -> None:
        super().__init__(encoder, config)
        self.key = nn.Linear(config.dim, config.width)
        self.rate = nn.Parameter(torch.zeros(()))
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        keys = self._keys(support.features)
        member = class_members(support)
        memory = keys.new_zeros(*support.class_key.shape, keys.shape[-1])
        if prior is not None:
            memory = F.pad(prior.rows["memory"], (0, 0, 0, memory.shape[1] - prior.class_key.shape[1]))
        written = support.mask[:, :, None] & support.class_mask[:, None]
        for position in range(keys.shape[1]):
            key = keys[:, position]
            recalled = (memory @ key[..., None])[..., 0]
            error = torch.where(written[:, position], member[:, position] - recalled, 0.0)
            memory = memory + self.rate.sigmoid() * error[..., None] * key[:, None]
        return TaskWeights({}, {"memory": memory}, support.n_way, support.class_key, support.seed)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        recalled = self._keys(features) @ weights.rows["memory"].transpose(1, 2)
        logits = self.log_sharpness.exp() * recalled
        return Categorical(logits.masked_fill(~weights.class_mask[:, None], -torch.inf).log_softmax(-1))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        embedded = embed_episodes(self.embed, episodes)
        answer = self.predict(self.adapt(embedded.support), embedded.query)
        return Losses(cross_entropy(answer.log_probs, embedded.target, embedded.known))

    def _keys(self, x: Float[Tensor, "tasks n d"]) -> Float[Tensor, "tasks n width"]:
        return F.normalize(self.key(x), dim=-1)
