"""Hypernet-PPA: a hypernetwork writes the classifier one class at a time (after Qiao et al. 2018, 1706.03466).

From the mean feature of a class, s_c = mean f(x), one MLP shared by all classes writes that class's row,

    (w_c, b_c) = φ(s_c),    logit_c(q) = w_c·f(q) + b_c.

A class is independent of its neighbours, so any way, any shot and any order of classes will do, and adding examples is
a running sum of the means. Task weights: per class row w_c, b_c, s_c and the number of shots. Deterministic.
"""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.bayes.calibration import task_terms
from models.encoder_protocol import Encoder
from models.fewshot.common.classification import Classifier, answer_losses, class_sums, fixed_length
from models.fewshot.common.linear_classifier import answer, linear_logits, linear_weights
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Episodes, Losses, Support, TaskWeights, Traits


class PpaConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(default=256, ge=1, le=4096)
    depth: int = Field(default=2, ge=1, le=8)
    """Linear layers of φ."""


class Ppa(Classifier):
    Config = PpaConfig
    config: PpaConfig
    traits = Traits(incremental=True, representation="feed-forward")

    def __init__(self, encoder: Encoder, config: PpaConfig) -> None:
        super().__init__(encoder, config)
        layers: list[nn.Module] = []
        width = dim = fixed_length(encoder)
        for _ in range(config.depth - 1):
            layers += [nn.Linear(width, config.hidden), nn.ReLU()]
            width = config.hidden
        self.hypernet = nn.Sequential(*layers, nn.Linear(width, dim + 1))

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        sums, shots = class_sums(support, support.features)
        if prior is not None:
            old_way = prior.class_key.shape[1]
            sums[:, :old_way] += prior.rows["mean"] * prior.rows["shots"][..., None]
            shots[:, :old_way] += prior.rows["shots"]
        means = sums / shots.clamp_min(1)[..., None]
        weight, bias = self.hypernet(means).split((means.shape[-1], 1), dim=-1)
        weights = linear_weights(support, weight, bias[..., 0])
        return replace(
            weights,
            task={"terms": task_terms(support.n_way, shots)},
            rows={**weights.rows, "mean": means, "shots": shots},
        )

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        return answer(self.calibration, weights, linear_logits(weights, features))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        return answer_losses(self, episodes)
