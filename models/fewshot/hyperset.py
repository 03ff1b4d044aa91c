"""hyperset: one hypernetwork for any way and any shot; an amortised PLDA with a gated set residual.

Two-covariance model (PLDA: Ioffe 2006; Prince, Elder 2007) in a learned space u = A f(x): a class mean is drawn
from N(m, B), its examples from N(μ_c, W), both diagonal there. A support set gives the posterior in closed form,

    μ_c = (κ m + K z̄_c) / (κ + K),   variance v_c = W / (K + κ),   κ = W / B,

so the mean shrinks to the task mean m and the variance falls with shots by construction. A small net reads
statistics of the support set (way, shots, scatter within and between) and scales W, B and the temperature of
the task; attention across the classes adds a bounded residual to μ_c and v_c, behind a gate.

A query z is scored by log N(z; μ_c, W (1 + 1/(K + κ))). Uncertainty about μ_c makes the logit Gaussian, with
variance Σ_j (z_j − μ_cj)² v_cj / W_j² (first order), and is sampled there, one draw per class and sample. The
predictive of a new class, N(m, B + W), against the known ones is a Bayes factor: the score of `unknown`.

Task weights: a mean, shots and a log factor of the variance per class row; m and three scales per task.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from models.bayes.calibration import task_terms
from models.bayes.sampling import MOST_SAMPLED, expectations, mean_log_probs, sampled_log_probs
from models.encoder_protocol import Encoder
from models.fewshot.common.classification import (
    Classifier,
    EmbeddedEpisodes,
    class_members,
    class_sums,
    cross_entropy,
    embed_episodes,
    fixed_length,
    per_log_way,
    squared_distances,
)
from models.hypernets.set_residual import SetResidual
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import (
    Episodes,
    Losses,
    Support,
    TaskWeights,
    Traits,
    refuse_prior,
)

_TASK_STATISTICS = 5
_TRAINING_NOISE = Noise(8)
_MAX_LOG_SCALE = 1.5
"""Bound on the task net's changes of W, B and the temperature, in log units."""


class HyperSetConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=64, ge=1, le=1024)
    """Width of the set residual and of the task net."""
    depth: int = Field(default=2, ge=0, le=16)
    heads: int = Field(default=4, ge=1, le=64)
    """A divisor of the width."""
    residual_dropped: float = Field(default=0.25, ge=0, le=1)
    """Share of training tasks without the residual, so that the closed form stays good on its own."""
    protonet_weight: float = Field(default=0.5, ge=0)
    unknown_weight: float = Field(default=0.1, ge=0)
    kl_weight: float = Field(default=1e-3, ge=0)

    @model_validator(mode="after")
    def _divides(self) -> HyperSetConfig:
        if self.width % self.heads:
            raise ValueError("width is no multiple of heads")
        return self


class HyperSet(Classifier):
    Config = HyperSetConfig
    config: HyperSetConfig
    gate: Tensor

    def __init__(self, encoder: Encoder, config: HyperSetConfig) -> None:
        super().__init__(encoder, config)
        self.traits = Traits(stochastic=True, representation="feed-forward")
        dim = fixed_length(encoder)
        self.metric = nn.Linear(dim, dim)
        nn.init.eye_(self.metric.weight)
        nn.init.zeros_(self.metric.bias)
        self.centre = nn.Parameter(torch.zeros(dim))
        self.log_within = nn.Parameter(torch.full((dim,), math.log(0.5)))
        self.log_between = nn.Parameter(torch.full((dim,), math.log(1.5)))
        self.log_centre_strength = nn.Parameter(torch.zeros(()))
        enter, scales = nn.Linear(_TASK_STATISTICS, config.width), nn.Linear(config.width, 3)
        nn.init.zeros_(scales.weight)
        nn.init.zeros_(scales.bias)
        self.task_net = nn.Sequential(enter, nn.GELU(), scales)
        self.residual = SetResidual(dim, config.width, config.depth, config.heads)
        self.unknown_affine = nn.Parameter(torch.tensor([0.1, 0.0]))
        """Scale and offset of the Bayes factor in training only; answers use the calibration."""
        self.register_buffer("gate", torch.ones(()))
        """1 with the residual, 0 without, chosen on validation tasks."""

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        gate = self.gate.expand(len(support.n_way)) if self.gate else None
        return self._adapt(support, self.metric(support.features), gate)

    def _adapt(
        self, support: Support, u: Float[Tensor, "tasks support d"], gate: Float[Tensor, "tasks"] | None
    ) -> TaskWeights:
        """Make task weights. `gate` weighs the residual; None leaves it out, which halves the work."""
        sums, shots = class_sums(support, u)
        present = support.class_mask
        means = sums / shots.clamp_min(1)[..., None]
        n_way = support.n_way.to(u)[:, None]
        strength = self.log_centre_strength.exp()
        centre = (strength * self.centre + (means * present[..., None]).sum(1)) / (strength + n_way)
        statistics = self._statistics(support, u, means, shots, centre)
        scales = _MAX_LOG_SCALE * torch.tanh(self.task_net(statistics) / _MAX_LOG_SCALE)
        within, between = self._variances(scales)
        kappa = (within / between)[:, None]
        count = shots[..., None] + kappa
        mean = (kappa * centre[:, None] + shots[..., None] * means) / count
        factor = torch.zeros_like(shots)
        if gate is not None:
            tokens = (means - centre[:, None]) / (within + between).sqrt()[:, None]
            shift, factor = self.residual(tokens, shots.clamp_min(1).log(), present)
            deviation = (within[:, None] / count).sqrt()
            mean = mean + gate[:, None, None] * shift * deviation
            factor = gate[:, None] * factor
        blank = ~present
        return TaskWeights(
            task={
                "centre": centre,
                "scales": scales,
                "terms": task_terms(support.n_way, shots, statistics[:, 2:4]),
            },
            rows={
                "mean": mean.masked_fill(blank[..., None], 0),
                "shots": shots,
                "log_factor": factor.masked_fill(blank, 0),
            },
            n_way=support.n_way,
            class_key=support.class_key,
            seed=support.seed,
        )

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        terms = weights.task["terms"]
        u = self.metric(features)
        logits, deviation, novelty = self._logits(weights, u)
        sharpness = self.calibration.inverse_temperature(terms)[:, None, None]
        unknown = self.calibration.unknown(novelty, terms)
        levels = self.calibration.set_levels(terms)
        if noise is None:
            return Categorical((logits * sharpness).log_softmax(-1), None, unknown, levels, novelty=novelty)
        spread = self.calibration.spread(terms)[:, None, None]
        draws = noise.normal(weights.seed, weights.class_key)
        sharp, wide = logits * sharpness, deviation * sharpness * spread
        part = max(1, MOST_SAMPLED // draws.numel())
        parts = [
            expectations(
                sharp[:, start : start + part], wide[:, start : start + part], draws, weights.class_mask
            )
            for start in range(0, max(1, sharp.shape[1]), part)
        ]
        log_probs, expected = (torch.cat(both, dim=1) for both in zip(*parts, strict=True))
        return Categorical(log_probs, expected, unknown, levels, noise.samples, novelty)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return sampled NLL and ProtoNet's, in units of log way, with the losses of `unknown` and of the prior."""
        embedded = embed_episodes(self.embed, episodes)
        support = embedded.support
        dropped = torch.special.ndtr(Noise(1).normal(support.seed, torch.zeros_like(support.seed)[:, None]))
        keep = (dropped[:, 0, 0] >= self.config.residual_dropped).to(support.features)
        weights = self._adapt(support, self.metric(support.features), keep)
        logits, deviation, novelty = self._logits(weights, self.metric(embedded.query))
        draws = _TRAINING_NOISE.normal(weights.seed, weights.class_key)
        members = sampled_log_probs(logits, deviation, draws)
        log_probs = mean_log_probs(members, weights.class_mask)
        nll = cross_entropy(log_probs, embedded.target, embedded.known)
        protonet = self._protonet_loss(embedded)
        unknown = self._unknown_loss(novelty, embedded)
        kl = self._divergence(weights) / embedded.known.sum(1).clamp_min(1)
        config = self.config
        total = per_log_way(nll + config.protonet_weight * protonet + config.kl_weight * kl, episodes.n_way)
        parts = {"nll": nll, "protonet": protonet, "unknown": unknown, "kl": kl}
        return Losses(
            total + config.unknown_weight * unknown, {name: part.detach() for name, part in parts.items()}
        )

    def select(self, validation_loss: Callable[[], float]) -> dict[str, float]:
        """Keep the residual only if validation tasks are better with it."""
        losses = {}
        for value in (0.0, 1.0):
            self.gate.fill_(value)
            losses[value] = validation_loss()
        self.gate.fill_(min(losses, key=lambda value: losses[value]))
        return {"gate": float(self.gate)}

    def _variances(self, scales: Float[Tensor, "tasks 3"]) -> tuple[Tensor, Tensor]:
        """Return W and B of each task, [tasks, d]."""
        return (self.log_within + scales[:, :1]).exp(), (self.log_between + scales[:, 1:2]).exp()

    def _logits(
        self, weights: TaskWeights, u: Float[Tensor, "tasks query d"]
    ) -> tuple[
        Float[Tensor, "tasks query way"], Float[Tensor, "tasks query way"], Float[Tensor, "tasks query"]
    ]:
        """Return mean and standard deviation of the logits, and the log Bayes factor of a new class."""
        centre, scales = weights.task["centre"][:, None], weights.task["scales"]
        within, between = self._variances(scales)
        kappa = (within / between)[:, None]
        ratio = weights.rows["log_factor"].exp()[..., None] / (weights.rows["shots"][..., None] + kappa)
        u, mean = u - centre, weights.rows["mean"] - centre
        quadratic = _quadratic(u, mean, 1 / (within[:, None] * (1 + ratio)))
        likelihood = -0.5 * (quadratic + (1 + ratio).log().sum(-1)[:, None])
        padding = ~weights.class_mask[:, None]
        noise = _quadratic(u, mean, ratio / within[:, None]).clamp_min(1e-12).sqrt()
        new = -0.5 * (u.square() / (within + between)[:, None]).sum(-1)
        new = new - 0.5 * (1 + between / within).log().sum(-1)[:, None]
        known = likelihood.masked_fill(padding, -torch.inf).logsumexp(-1) - weights.n_way.to(u).log()[:, None]
        sharpness = scales[:, 2].exp()[:, None, None]
        return (likelihood * sharpness).masked_fill(padding, -torch.inf), noise * sharpness, new - known

    def _statistics(
        self,
        support: Support,
        u: Float[Tensor, "tasks support d"],
        means: Float[Tensor, "tasks way d"],
        shots: Float[Tensor, "tasks way"],
        centre: Float[Tensor, "tasks d"],
    ) -> Float[Tensor, "tasks statistics"]:
        """Return log way, log shot, and the scatter of this task relative to W and B; 0 is as expected."""
        within, between = self.log_within.exp(), self.log_between.exp()
        member = class_members(support)
        spread = ((u - member @ means).square() / within).mean(-1) * support.mask
        freedom = (shots - 1).clamp_min(0).sum(1)
        scatter_within = torch.where(freedom > 0, spread.sum(1) / freedom.clamp_min(1), 1.0)
        expected = between + within / shots.clamp_min(1)[..., None]
        apart = ((means - centre[:, None]).square() / expected).mean(-1) * support.class_mask
        way = support.n_way.to(u)
        scatter_between = apart.sum(1) / (way - 1).clamp_min(1)
        basic = task_terms(support.n_way, shots)
        extra = (scatter_within.clamp_min(1e-3).log(), scatter_between.clamp_min(1e-3).log())
        certainty = freedom.clamp_min(0).log1p()
        return torch.stack((basic[:, 1] - 2, basic[:, 2] - 1, *extra, certainty / 3), dim=1)

    def _protonet_loss(self, embedded: EmbeddedEpisodes) -> Float[Tensor, "tasks"]:
        sums, shots = class_sums(embedded.support, embedded.support.features)
        logits = -squared_distances(embedded.query, sums / shots.clamp_min(1)[..., None])
        logits = logits.masked_fill(~embedded.support.class_mask[:, None], -torch.inf)
        return cross_entropy(logits.log_softmax(-1), embedded.target, embedded.known)

    def _unknown_loss(
        self, novelty: Float[Tensor, "tasks query"], embedded: EmbeddedEpisodes
    ) -> Float[Tensor, "tasks"]:
        """Return the logistic loss of foreign against known queries, both halves with equal weight."""
        logit = self.unknown_affine[0] * novelty + self.unknown_affine[1]
        terms = ((F.softplus(-logit), embedded.foreign), (F.softplus(logit), embedded.known))
        halves = [torch.where(mask, loss, 0.0).sum(1) / mask.sum(1).clamp_min(1) for loss, mask in terms]
        return 0.5 * (halves[0] + halves[1])

    def _divergence(self, weights: TaskWeights) -> Float[Tensor, "tasks"]:
        """Return Σ_c KL(N(μ_c, v_c) ‖ N(m, B)) with the learned prior."""
        within, between = self._variances(weights.task["scales"])
        within, between = within[:, None], between[:, None]
        ratio = weights.rows["log_factor"].exp()[..., None] / (
            weights.rows["shots"][..., None] + within / between
        )
        share = within * ratio / between
        moved = (weights.rows["mean"] - weights.task["centre"][:, None]).square() / between
        kl = 0.5 * (share + moved - 1 - share.log()).sum(-1)
        return (kl * weights.class_mask).sum(1)


def _quadratic(
    u: Float[Tensor, "tasks query d"],
    mean: Float[Tensor, "tasks way d"],
    weight: Float[Tensor, "tasks way d"],
) -> Float[Tensor, "tasks query way"]:
    """Return Σ_j weight_cj (u_j − mean_cj)² by two batched products."""
    cross = u.square() @ weight.transpose(1, 2) - 2 * (u @ (weight * mean).transpose(1, 2))
    return (cross + (weight * mean.square()).sum(-1)[:, None]).clamp_min(0)
