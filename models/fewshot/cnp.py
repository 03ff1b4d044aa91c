"""Conditional neural processes that classify (Garnelo et al. 2018, 1807.01613, §4.3).

Each example becomes a representation, those of a class are averaged, and a decoder compares a query with each class:

    r_c = mean of h(f(x)) over the examples of class c,    r = mean of r_c over the classes,
    logit_c(q) = g([r_c ; r ; f(q) ; |r_c − h(f(q))|]).

The paper has one representation per class and joins all of them into the input of one decoder with as many outputs as
classes, which fixes the way and gives each class a place. Here one g is shared by the classes: any way, any shot, and
another order of the classes permutes the answers. The joined representations also inform g about the other classes;
here their mean does, unless `context` is off. The gap to the query's own representation is our addition, without
which g learns to compare far more slowly; `gap` turns it off. The paper leaves open the depths of h and g and whether
the encoder is shared by examples and queries (here it is). The label is no input of h, as in the paper: it only
selects the mean that an example goes into.

Task weights: r_c and the number of shots per class row, so that an example is added at O(1) and a class costs
`dim` + 1 numbers. Deterministic: there is no epistemic part.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.bayes.calibration import task_terms
from models.encoder_protocol import Encoder
from models.fewshot.common.classification import Classifier, answer_losses, class_sums, fixed_length
from models.fewshot.common.linear_classifier import answer
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Episodes, Losses, Support, TaskWeights, Traits


class CnpConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dim: int = Field(default=128, ge=1, le=4096)
    """Numbers of a representation."""
    hidden: int = Field(default=128, ge=1, le=4096)
    depth: int = Field(default=2, ge=1, le=8)
    """Linear layers of h."""
    decoder_depth: int = Field(default=3, ge=2, le=8)
    """Linear layers of g."""
    context: bool = True
    """Show g the mean over the classes of the task."""
    gap: bool = True
    """Show g the distance of the query's own representation from that of the class."""


class Cnp(Classifier):
    Config = CnpConfig
    config: CnpConfig
    traits = Traits(incremental=True, representation="feed-forward")

    def __init__(self, encoder: Encoder, config: CnpConfig) -> None:
        super().__init__(encoder, config)
        dim = fixed_length(encoder)
        self.h = _network(dim, config.hidden, config.dim, config.depth)
        # The first layer of g in parts, by the input that each reads: a class is compared with many queries.
        self.of_class = nn.Linear(config.dim, config.hidden, bias=False)
        self.of_task = nn.Linear(config.dim, config.hidden, bias=False) if config.context else None
        self.of_query = nn.Linear(dim, config.hidden)
        self.of_gap = nn.Linear(config.dim, config.hidden, bias=False) if config.gap else None
        self.g = nn.Sequential(nn.ReLU(), _network(config.hidden, config.hidden, 1, config.decoder_depth - 1))

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        sums, shots = class_sums(support, self.h(support.features))
        if prior is not None:
            old_way = prior.class_key.shape[1]
            sums[:, :old_way] += prior.rows["representation"] * prior.rows["shots"][..., None]
            shots[:, :old_way] += prior.rows["shots"]
        return TaskWeights(
            task={"terms": task_terms(support.n_way, shots)},
            rows={"representation": sums / shots.clamp_min(1)[..., None], "shots": shots},
            n_way=support.n_way,
            class_key=support.class_key,
            seed=support.seed,
        )

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        return answer(self.calibration, weights, self.logits(weights, features))

    def logits(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"]
    ) -> Float[Tensor, "tasks query way"]:
        """Return g of every class with every query; −∞ on padding."""
        rows = weights.rows["representation"]
        classes = self.of_class(rows)
        if self.of_task is not None:
            classes = classes + self.of_task(rows.sum(1, keepdim=True) / weights.n_way[:, None, None])
        joined = classes[:, None] + self.of_query(features)[:, :, None]
        if self.of_gap is not None:
            joined = joined + self.of_gap((rows[:, None] - self.h(features)[:, :, None]).abs())
        compared: Tensor = self.g(joined)[..., 0]
        return compared.masked_fill(~weights.class_mask[:, None], -torch.inf)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        return answer_losses(self, episodes)


def _network(inputs: int, hidden: int, outputs: int, depth: int) -> nn.Sequential:
    """Return `depth` linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        layers += [nn.Linear(inputs, hidden), nn.ReLU()]
        inputs = hidden
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
