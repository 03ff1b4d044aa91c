"""HyperMAML (Przewięźlikowski et al. 2022, 2205.15745): a hypernetwork instead of the inner gradient steps.

A universal linear classifier θ, one row (w_i, b_i) for each of N places. Each class, averaged over its shots, is
described by [f(x); softmax(θ f(x)); i], its place i as one number, no gradient through the softmax; one MLP maps
the description to the update of that class's row,

    θ'_i = θ_i − Δ_i,    logits = θ' f(q).

Training begins as MAML on the classifier and moves over to the hypernetwork: with
θ_MAML = θ − α Σ_k ∇L(θ_k), the gradient taken anew at each step θ_k, and p(t) falling from 1 to 0,

    θ' = p θ_MAML + (1 − p)(θ − Δ).

With one step this is the published p α ∇L + (1 − p) Δ. With more, the authors' code takes all gradients at θ and
subtracts Δ at each; here Δ counts once. The gradient of a linear classifier has a closed form, and autograd through
it gives the second order. Answers are always those of p = 0.

The length of the input fixes the way N; averaging leaves the shots free. The place of each class matters, so the order
is that of `models.fewshot.common.class_order`, and answers are the mean over its turns. The encoder's
BatchNorm uses running statistics: answers are inductive, where the published figures are transductive.

Task weights: per class row, its θ' (weights, then bias) in each order. Deterministic: there is no epistemic part.
`unknown` is read off the energy −log Σ exp(logits) (Liu et al. 2020, 2010.03759), once that is calibrated.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from models.bayes.calibration import task_terms
from models.bayes.sampling import MOST_SAMPLED
from models.encoder_protocol import Encoder
from models.fewshot.common.class_order import refuse_other_ways, turns
from models.fewshot.common.classification import (
    Classifier,
    EmbeddedEpisodes,
    class_members,
    class_sums,
    cross_entropy,
    embed_episodes,
    fixed_length,
)
from models.hypernets.row_tails import RowTails
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import (
    Episodes,
    Losses,
    Span,
    Support,
    TaskWeights,
    Traits,
    Trial,
    refuse_prior,
)


class HyperMAMLConfig(BaseModel):
    """Defaults are the published settings for characters (Omniglot → EMNIST)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ways: int = Field(default=5, ge=2, le=100)
    """Number of classes of every task."""
    hidden: int = Field(default=512, ge=1, le=4096)
    layers: int = Field(default=3, ge=1, le=8)
    """Linear layers of the hypernetwork."""
    inner_lr: float = Field(default=0.1, gt=0)
    inner_steps: int = Field(default=1, ge=1, le=20)
    epochs: int = Field(default=2048, ge=1)
    """Length of any training in the unit of `warm_up` and `switch`."""
    warm_up: int = Field(default=50, ge=0)
    """Epochs of the gradient alone."""
    switch: int = Field(default=500, ge=0)
    """Epochs in which the hypernetwork takes over."""
    train_on_support: bool = False
    update_penalty: float = Field(default=0.0, ge=0)
    """Weight of ‖Δ‖² in the loss."""
    orders: int | None = Field(default=None, ge=1)
    """Number of class orders that answers are averaged over; None is all `ways` turns."""

    @model_validator(mode="after")
    def _orders_are_turns(self) -> HyperMAMLConfig:
        if self.orders is not None and self.orders > self.ways:
            raise ValueError(f"{self.ways} classes have {self.ways} turns, not {self.orders}")
        return self


class HyperMAML(Classifier):
    Config = HyperMAMLConfig
    TAILS: ClassVar[tuple[str, ...]] = ("delta",)
    trial = Trial(hparams={"ways": 3})
    config: HyperMAMLConfig

    def __init__(self, encoder: Encoder, config: HyperMAMLConfig) -> None:
        super().__init__(encoder, config)
        self.traits = Traits(ways=Span(config.ways, config.ways), representation="feed-forward")
        dim = fixed_length(encoder)
        self.universal = nn.Linear(dim, config.ways)
        nn.init.zeros_(self.universal.bias)
        described = dim + config.ways + 1
        self.hypernet = RowTails(described, dim + 1, self.TAILS, config.hidden, config.layers)

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        place = self._places(support, self.config.orders or self.config.ways)
        rows = self._universal_rows(place) - self._emitted(support, place)["delta"]
        return task_weights(support, {"row": rows})

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        rows, terms = weights.rows["row"], weights.task["terms"]
        part = max(1, MOST_SAMPLED // max(1, rows[..., 0].numel()))
        sharpness = self.calibration.inverse_temperature(terms)[:, None, None, None]
        answers = []
        for some in features.split(part, dim=1):
            logits = logits_of(rows, with_one(some))
            log_probs = mean_over_orders((logits * sharpness).log_softmax(2))
            answers.append((log_probs, -logits.logsumexp(2).mean(-1)))
        log_probs, novelty = (torch.cat(both, dim=1) for both in zip(*answers, strict=True))
        return Categorical(
            log_probs,
            unknown=self.calibration.unknown(novelty, terms),
            set_levels=self.calibration.set_levels(terms),
            novelty=novelty,
        )

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the mean cross-entropy over known queries, in nats, in the order of the episode, which is random.

        Published meta-batches are summed: at their learning rates under Adam that is the same as the mean.
        """
        embedded = embed_episodes(self.embed, episodes)
        support, config = embedded.support, self.config
        share = self.gradient_share(progress)
        place = self._places(support, 1)
        start, update = self._universal_rows(place), None
        if share < 1:
            update = self._emitted(support, place)["delta"]
        rows = self._mixed(start, update, support, share)
        nll, total = self._fit(rows, embedded)
        if config.update_penalty and update is not None:
            total = total + config.update_penalty * update.square().sum((1, 2, 3))
        return Losses(total, {"nll": nll.detach()})

    def gradient_share(self, progress: float) -> float:
        """Return p at the training's `progress`: the gradient's share of the update."""
        config = self.config
        return gradient_share(progress * config.epochs, config.warm_up, config.switch)

    def _places(self, support: Support, orders: int) -> Int[Tensor, "tasks way orders"]:
        """Return the place of each class row in each order."""
        refuse_other_ways(support, self.config.ways)
        return turns(support.class_key, orders).argsort(-1).transpose(1, 2)

    def _universal_rows(
        self, place: Int[Tensor, "tasks way orders"]
    ) -> Float[Tensor, "tasks way orders row"]:
        return torch.cat((self.universal.weight, self.universal.bias[:, None]), dim=1)[place]

    def _emitted(
        self, support: Support, place: Int[Tensor, "tasks way orders"]
    ) -> dict[str, Float[Tensor, "tasks way orders row"]]:
        """Return the output of the hypernetwork for each class at each of its places."""
        with torch.no_grad():
            belief = self.universal(support.features).softmax(-1)
        sums, shots = class_sums(support, torch.cat((support.features, belief), dim=-1))
        means = sums / shots.clamp_min(1)[..., None]
        shared = means[:, :, None].expand(-1, -1, place.shape[-1], -1)
        emitted: dict[str, Tensor] = self.hypernet(torch.cat((shared, place[..., None].to(means)), dim=-1))
        return emitted

    def _mixed(
        self,
        start: Float[Tensor, "tasks way orders row"],
        update: Float[Tensor, "tasks way orders row"] | None,
        support: Support,
        share: float,
        decay: float = 0.0,
    ) -> Float[Tensor, "tasks way orders row"]:
        """Return p θ_MAML + (1 − p)(θ − Δ); a part without a share is not computed."""
        rows = torch.zeros_like(start)
        if share > 0:
            config = self.config
            rows = share * descend(start, support, config.inner_lr, config.inner_steps, decay)
        if share < 1:
            assert update is not None
            rows = rows + (1 - share) * (start - update)
        return rows

    def _fit(
        self,
        rows: Float[Tensor, "tasks way one row"],
        embedded: EmbeddedEpisodes,
    ) -> tuple[Float[Tensor, "tasks"], Float[Tensor, "tasks"]]:
        """Return the loss of the queries, and that including the support set if `train_on_support` is set."""
        logits = logits_of(rows, with_one(embedded.query))[..., 0]
        nll = cross_entropy(logits.log_softmax(-1), embedded.target, embedded.known)
        if not self.config.train_on_support:
            return nll, nll
        support = embedded.support
        assert support.targets is not None
        own = logits_of(rows, with_one(support.features))[..., 0].log_softmax(-1)
        return nll, nll + cross_entropy(own, support.targets, support.mask)


def gradient_share(epoch: float, warm_up: int, switch: int) -> float:
    """Return p(t): 1 before `warm_up`, (S + W − t)/(S + 1) through the S epochs of `switch`, then 0."""
    if epoch < warm_up:
        return 1.0
    return max(0.0, (switch + warm_up - epoch) / (switch + 1))


def task_weights(support: Support, rows: dict[str, Float[Tensor, "tasks way orders row"]]) -> TaskWeights:
    shots = class_members(support).sum(1)
    return TaskWeights(
        task={"terms": task_terms(support.n_way, shots)},
        rows=rows,
        n_way=support.n_way,
        class_key=support.class_key,
        seed=support.seed,
    )


def descend(
    rows: Float[Tensor, "tasks way orders row"], support: Support, lr: float, steps: int, decay: float = 0.0
) -> Float[Tensor, "tasks way orders row"]:
    """Descend L, the mean cross-entropy of the support set + decay/2 ‖rows‖², by gradient steps."""
    x, member = with_one(support.features), class_members(support)
    count = support.mask.sum(1).clamp_min(1)[:, None, None, None]
    for _ in range(steps):
        belief = logits_of(rows, x).softmax(2)
        residual = (belief - member[..., None]) * support.mask[..., None, None]
        gradient = torch.einsum("tswo,tsr->twor", residual, x) / count
        rows = rows - lr * (gradient + decay * rows)
    return rows


def with_one(features: Float[Tensor, "tasks n d"]) -> Float[Tensor, "tasks n row"]:
    """Append a 1 for the bias: the factor of a row of weights and bias."""
    return F.pad(features, (0, 1), value=1.0)


def logits_of(
    rows: Float[Tensor, "tasks way orders row"], x: Float[Tensor, "tasks n row"]
) -> Float[Tensor, "tasks n way orders"]:
    logits = x @ rows.flatten(1, 2).transpose(1, 2)
    return logits.view(*logits.shape[:2], *rows.shape[1:3])


def mean_over_orders(log_probs: Float[Tensor, "*lead orders"]) -> Float[Tensor, "*lead"]:
    """Return the log of the mean probability over the orders."""
    mean: Tensor = log_probs.logsumexp(-1) - math.log(log_probs.shape[-1])
    return mean
