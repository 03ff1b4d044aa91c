"""BayesHMAML (Borycki et al. 2022, 2210.02796): HyperMAML whose hypernetwork writes a posterior.

One trunk, two tails: a class's update Δ_i and the log variance of its row,

    w_i ~ N(μ_i, diag exp(s_i)),    μ = θ − Δ,    logits = w f(q);

θ stays a point. Trained by the cross-entropy of the queries, their logits averaged over `draws` sampled weights, plus
κ(t) Σ KL(N(μ, exp s) ‖ N(0, 1)), summed over weights. κ grows geometrically from `kl_start` to `kl_stop`, so it is next
to 0 for most of the training. The switch from the gradient is HyperMAML's and concerns μ; s is the
hypernetwork's from the start, and the inner loss has κ times the same divergence, whose gradient is κ μ.

Logits of a linear layer with Gaussian weights are Gaussian, so they are drawn instead of the weights: for each query
the distribution is the same. Answers without noise are those of μ alone, which is what the paper's accuracies
are. With noise, probabilities are averaged over the sampled members, not logits, and the epistemic part is the mutual
information of answer and weights. A member speaks through all orders of the classes with one draw per class:
another order of the classes is no evidence, and independent draws would average uncertainty away.

Task weights: per class row, μ and s (weights, then bias) in each order. `unknown` is read off the energy of μ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from models.bayes.sampling import MOST_SAMPLED, mean_log_probs
from models.bayes.variational import GaussianPrior, gaussian_kl, linear_moments
from models.encoder_protocol import Encoder
from models.fewshot.common.classification import cross_entropy, embed_episodes
from models.fewshot.hypermaml import (
    HyperMAML,
    HyperMAMLConfig,
    logits_of,
    mean_over_orders,
    task_weights,
    with_one,
)
from models.noise import Noise
from models.predictive import Categorical, categorical_entropy
from models.protocol import Episodes, Losses, Span, Support, TaskWeights, Traits, refuse_prior

_PRIOR = GaussianPrior()
_MAX_LOG_VARIANCE = 10.0
"""Bound on the log variance, or inputs unlike any in training would overflow."""


class BayesHMAMLConfig(HyperMAMLConfig):
    """Defaults are the published settings for characters (Omniglot → EMNIST)."""

    draws: int = Field(default=5, ge=1, le=100)
    """Sampled weights per training task."""
    kl_start: float = Field(default=1e-24, gt=0)
    kl_stop: float = Field(default=1e-3, gt=0)
    """Weight κ of the divergence at the start and at the end of training."""


class BayesHMAML(HyperMAML):
    Config = BayesHMAMLConfig
    TAILS = ("delta", "log_variance")
    trial = replace(HyperMAML.trial, steps=50)
    config: BayesHMAMLConfig

    def __init__(self, encoder: Encoder, config: BayesHMAMLConfig) -> None:
        super().__init__(encoder, config)
        ways = Span(config.ways, config.ways)
        self.traits = Traits(ways=ways, stochastic=True, representation="feed-forward")

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        place = self._places(support, self.config.orders or self.config.ways)
        emitted = self._emitted(support, place)
        mean = self._universal_rows(place) - emitted["delta"]
        return task_weights(support, {"row": mean, "log_variance": _bounded(emitted["log_variance"])})

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        """Answer with sampled weights; without noise with μ alone, which has no epistemic part."""
        if noise is None:
            return super().predict(weights, features)
        terms = weights.task["terms"]
        draws = noise.normal(weights.seed, weights.class_key)
        sharpness = self.calibration.inverse_temperature(terms)[:, None, None, None]
        spread = self.calibration.spread(terms)[:, None, None, None] * sharpness
        orders = weights.rows["row"].shape[2]
        part = max(1, MOST_SAMPLED // max(1, draws.numel() * orders))
        answers = []
        for some in features.split(part, dim=1):
            logits, deviation = _moments(weights.rows, some)
            spread_out = (deviation * spread)[..., None] * draws[:, None, :, None]
            sampled = (logits * sharpness)[..., None] + spread_out
            members = mean_over_orders(sampled.log_softmax(2).transpose(-1, -2))
            entropy = categorical_entropy(members.transpose(-1, -2)).mean(-1)
            novelty = -logits.logsumexp(2).mean(-1)
            answers.append((mean_log_probs(members, weights.class_mask), entropy, novelty))
        log_probs, expected, novelty = (torch.cat(each, dim=1) for each in zip(*answers, strict=True))
        return Categorical(
            log_probs,
            expected,
            self.calibration.unknown(novelty, terms),
            self.calibration.set_levels(terms),
            noise.samples,
            novelty,
        )

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the mean cross-entropy of averaged logits over known queries, in nats, plus κ KL over all weights."""
        embedded = embed_episodes(self.embed, episodes)
        support, config = embedded.support, self.config
        share, kappa = self.gradient_share(progress), self.kl_weight(progress)
        place = self._places(support, 1)
        emitted = self._emitted(support, place)
        update, log_variance = emitted["delta"], _bounded(emitted["log_variance"])
        mean = self._mixed(self._universal_rows(place), update, support, share, decay=kappa)
        rows = {"row": mean, "log_variance": log_variance}
        nll = cross_entropy(self._averaged(rows, embedded.query, support), embedded.target, embedded.known)
        kl = gaussian_kl(mean, log_variance, _PRIOR).sum((1, 2, 3))
        total = nll + kappa * kl + config.update_penalty * update.square().sum((1, 2, 3))
        if config.train_on_support:
            assert support.targets is not None
            own = logits_of(mean, with_one(support.features))[..., 0].log_softmax(-1)
            total = total + cross_entropy(own, support.targets, support.mask)
        return Losses(total, {"nll": nll.detach(), "kl": kl.detach()})

    def kl_weight(self, progress: float) -> float:
        """Return κ = kl_start^(1 − progress) · kl_stop^progress."""
        config = self.config
        return float(config.kl_start ** (1 - progress) * config.kl_stop**progress)

    def _averaged(
        self, rows: Mapping[str, Tensor], query: Float[Tensor, "tasks query d"], support: Support
    ) -> Float[Tensor, "tasks query way"]:
        """Return log-probabilities of the logits' mean over the draws, which are separate for each query."""
        logits, deviation = (moment[..., 0] for moment in _moments(rows, query))
        tasks, count, way = logits.shape
        keys = torch.arange(1, count * way + 1, device=query.device).expand(tasks, -1)
        draws = Noise(self.config.draws).normal(support.seed, keys).mean(-1)
        return (logits + deviation * draws.view(tasks, count, way)).log_softmax(-1)


def _moments(
    rows: Mapping[str, Tensor], features: Float[Tensor, "tasks query d"]
) -> tuple[Float[Tensor, "tasks query way orders"], Float[Tensor, "tasks query way orders"]]:
    """Mean and standard deviation of the logits."""
    mean, log_variance = rows["row"], rows["log_variance"]
    shape = mean.shape[1:3]
    both = linear_moments(with_one(features), mean.flatten(1, 2), (0.5 * log_variance).exp().flatten(1, 2))
    return both[0].unflatten(-1, shape), both[1].unflatten(-1, shape)


def _bounded(log_variance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return log_variance.clamp(-_MAX_LOG_VARIANCE, _MAX_LOG_VARIANCE)
