"""MetaNet (Munkhdalai, Yu 2017, 1703.00837): gradients of the loss on the support set are read as fast weights.

A representation learner u with slow weights Q and fast weights Q*, a base learner b with W and W*. On a support set:

    Q*   = d(∇_Q L_u, class after class),          r_i = u(Q, Q*, x_i),
    W*_i = m(∇_W L_b(W; x_i, y_i)),                memory: R = (r_i), M = (W*_i);

and for a query q:  a = softmax(cos(R, u(Q, Q*, q))),  W* = aᵀM,  answer b(W, W*; q). d is an LSTM and m an MLP, both
on single coordinates (`models.hypernets.gradient_maps`). Layers are augmented: the input times slow weights and
times fast weights goes through a ReLU each and is summed; in the last layer the logits are summed.

Fast weights belong to the last layers alone, so that features are shared by all tasks and a task stays small: u is one
layer on the encoder's features x (with a 1 behind them, for the biases), b the linear classifier beside it. The paper
gives them to separate networks, convolutions too. Also different, or left open there:

* L_u is the cross-entropy of r_i·μ_c/√d, μ_c the mean slow representation of a class, held constant. d reads one
  gradient per class, the mean of its examples', in the order of rising loss, whatever the order of the classes.
* Slots of a class are stored as their mean. The paper reports one shot, for which that is the same; task weights do not
  grow with the shots.
* Gradients are inputs: none flows back through them, unless `differentiated`.
* W: with `ways`, as published, one learned row for each of N places, which classes take in the order of their keys.
  Without, any way: W is zero, its gradient (1/N − [c = y_i]) x_i has but two kinds of rows, of the own class and of
  others, and m writes but two. The softmax sees their difference v_i alone: logit_c = a_c v_c·x.

∇_W of the softmax layer is (p − y) xᵀ, ∇_Q has a closed form too, so adapting is feed-forward.

Task weights: Q*, width × (d + 1) numbers, left out with `fast="classifier"`; per class row its slots in R, `width`, and
in M, d + 1 or, with `ways`, N (d + 1). Deterministic: there is no epistemic part.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.bayes.calibration import task_terms
from models.encoder_protocol import Encoder
from models.fewshot.common.class_order import refuse_other_ways
from models.fewshot.common.classification import (
    Classifier,
    answer_losses,
    class_members,
    class_sums,
    fixed_length,
)
from models.fewshot.common.linear_classifier import answer
from models.fewshot.common.magnitudes import unit_vectors
from models.fewshot.hypermaml import with_one
from models.hypernets.gradient_maps import GradientLstm, GradientMlp
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import (
    Episodes,
    Losses,
    Span,
    Support,
    TaskWeights,
    Traits,
    refuse_prior,
)

_SLOW_ROW_SCALE = 0.1


class MetaNetConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ways: int | None = Field(default=None, ge=2, le=100)
    """Number of classes of every task, each with its own slow weights; None takes any number, without them."""
    fast: Literal["both", "classifier"] = "both"
    """Layers with fast weights."""
    width: int = Field(default=64, ge=1, le=4096)
    """Length of a representation."""
    units: int = Field(default=20, ge=1, le=256)
    """Hidden units of the maps from gradients to weights."""
    sharpness: float = Field(default=1.0, gt=0)
    """Factor on the cosine before the softmax of the attention; learned from here on. Published: 1, fixed."""
    differentiated: bool = False
    """Let the outer gradient flow through the inner ones."""


class MetaNet(Classifier):
    Config = MetaNetConfig
    config: MetaNetConfig

    def __init__(self, encoder: Encoder, config: MetaNetConfig) -> None:
        super().__init__(encoder, config)
        ways, row = config.ways, fixed_length(encoder) + 1
        self.traits = Traits(
            ways=Span(2) if ways is None else Span(ways, ways), representation="feed-forward"
        )
        self.representation = nn.Parameter(torch.randn(config.width, row) * math.sqrt(2 / row))
        self.slow = None if ways is None else nn.Parameter(_SLOW_ROW_SCALE * torch.randn(ways, row))
        self.read_representation = GradientLstm(config.units) if config.fast == "both" else None
        self.read_classifier = GradientMlp(config.units)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(config.sharpness)))

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        if self.config.ways is not None:
            refuse_other_ways(support, self.config.ways)
        x = with_one(support.features.masked_fill(~support.mask[..., None], 0))
        fast = self._fast_representation(support, x)
        written = self._fast_classifier(support, x)
        sums, shots = class_sums(support, torch.cat((self._represent(x, fast), written.flatten(2)), dim=-1))
        means = sums / shots.clamp_min(1)[..., None]
        key, memory = means.split((self.config.width, means.shape[-1] - self.config.width), dim=-1)
        return TaskWeights(
            task={"terms": task_terms(support.n_way, shots)} | ({} if fast is None else {"fast": fast}),
            rows={"key": key, "memory": memory.unflatten(-1, written.shape[2:])},
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
        """Return the logits; −∞ on padding."""
        x, memory = with_one(features), weights.rows["memory"]
        attention = self.attention(weights, features)
        if self.slow is None:
            logits = attention * (x @ memory.transpose(1, 2))
        else:
            recalled = torch.einsum("tqc,tcwr->tqwr", attention, memory)
            slow = x @ self._slow_rows(self.slow, weights).transpose(1, 2)
            logits = slow + (recalled @ x[..., None])[..., 0]
        return logits.masked_fill(~weights.class_mask[:, None], -torch.inf)

    def attention(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"]
    ) -> Float[Tensor, "tasks query way"]:
        """Return the share of each slot that a query recalls; they sum to 1, with 0 on padding."""
        query = self._represent(with_one(features), weights.task.get("fast"))
        cosine = unit_vectors(query) @ unit_vectors(weights.rows["key"]).transpose(1, 2)
        scores = self.log_sharpness.exp() * cosine
        return scores.masked_fill(~weights.class_mask[:, None], -torch.inf).softmax(-1)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        return answer_losses(self, episodes)

    def representation_gradients(
        self, support: Support, x: Float[Tensor, "tasks support row"]
    ) -> tuple[Float[Tensor, "tasks way width row"], Float[Tensor, "tasks way"]]:
        """Return ∇_Q of the mean loss of each class's examples, and that loss."""
        own, member = self._represent(x, None), class_members(support)
        sums, shots = class_sums(support, own)
        share = member / shots.clamp_min(1)[:, None]
        centres = sums / shots.clamp_min(1)[..., None] / math.sqrt(self.config.width)
        scores = (own @ centres.transpose(1, 2)).masked_fill(~support.class_mask[:, None], -torch.inf)
        log_probs = scores.log_softmax(-1)
        outer = ((log_probs.exp() - member) @ centres) * (own > 0)
        loss = -(share * log_probs.masked_fill(member == 0, 0)).sum(1)
        return torch.einsum("tsw,tsr,tsx->twrx", share, outer, x), loss

    def classifier_gradients(
        self, support: Support, x: Float[Tensor, "tasks support row"]
    ) -> Float[Tensor, "tasks support kind row"]:
        """Return ∇_W of each example's loss, (p − y) xᵀ: a row per class, or without slow weights per kind of row."""
        if self.slow is None:
            belief = (1 / support.n_way.to(x))[:, None, None]
            residual = torch.cat((belief - 1, belief), dim=-1).expand(-1, x.shape[1], -1)
        else:
            logits = x @ self._slow_rows(self.slow, support).transpose(1, 2)
            residual = logits.softmax(-1) - class_members(support)
        return residual[..., None] * x[:, :, None]

    def _fast_representation(
        self, support: Support, x: Float[Tensor, "tasks support row"]
    ) -> Float[Tensor, "tasks width row"] | None:
        if self.read_representation is None:
            return None
        gradients, loss = self.representation_gradients(support, x)
        order = loss.masked_fill(~support.class_mask, torch.inf).argsort(-1)
        ordered = torch.take_along_dim(gradients, order[..., None, None], 1)
        fast: Tensor = self.read_representation(self._as_input(ordered), support.n_way)
        return fast

    def _fast_classifier(
        self, support: Support, x: Float[Tensor, "tasks support row"]
    ) -> Float[Tensor, "tasks support *slot row"]:
        """Return W* of each example; without slow weights the difference of its two rows."""
        written: Tensor = self.read_classifier(self._as_input(self.classifier_gradients(support, x)))
        return written if self.slow is not None else written[:, :, 0] - written[:, :, 1]

    def _represent(
        self, x: Float[Tensor, "tasks n row"], fast: Float[Tensor, "tasks width row"] | None
    ) -> Float[Tensor, "tasks n width"]:
        """Run the augmented layer."""
        slow = F.relu(x @ self.representation.T)
        return slow if fast is None else slow + F.relu(x @ fast.transpose(1, 2))

    def _slow_rows(
        self, slow: Float[Tensor, "ways row"], of: Support | TaskWeights
    ) -> Float[Tensor, "tasks ways row"]:
        """Return for each class row the slow weights of the place of its key."""
        return slow[of.class_key.argsort(-1).argsort(-1)]

    def _as_input(self, gradient: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return gradient if self.config.differentiated else gradient.detach()
