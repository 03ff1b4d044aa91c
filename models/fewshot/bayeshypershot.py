"""BayesHyperShot (Sendera et al. 2023, "The general framework for few-shot learning by kernel HyperNetworks").

HyperShot whose hypernetwork writes, for each weight of the target network, a mean and a log variance,

    w ~ N(μ, exp(s)),    s = written log variance − 4,

so that deviations start near e⁻² and not near 1. Trained by HyperShot's cross-entropy, of logits averaged over
`draws` samples, plus `kl_weight` Σ KL(N(μ, exp s) ‖ N(0, 1)), summed over weights.

The units of a layer with Gaussian weights are Gaussian for one example, and independent, so units are drawn instead of
weights, layer by layer: for each query the distribution is the same. Hidden units are drawn by their number and logits
by the key of their class, the same in every order of the classes. Answers without noise are those of μ; with noise
probabilities are averaged, and the epistemic part is the mutual information of answer and weights.

Task weights: as HyperShot's, and as many log variances. `unknown` is read off the distance to the nearest support.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from models.bayes.sampling import mean_log_probs
from models.bayes.variational import GaussianPrior, gaussian_kl, linear_moments
from models.encoder_protocol import Encoder
from models.fewshot.common.classification import embed_episodes
from models.fewshot.common.magnitudes import unit_vectors
from models.fewshot.hypershot import HyperShot, HyperShotConfig
from models.noise import Noise
from models.predictive import Categorical, categorical_entropy
from models.protocol import Episodes, Losses, Span, TaskWeights, Traits

_PRIOR = GaussianPrior()
_SHIFT = 4.0
_SPREAD = "log_variance_"
_MOST_HIDDEN = 1 << 24
"""Numbers of one hidden layer [tasks, orders, samples, query, hidden]; more queries are answered in parts."""


class BayesHyperShotConfig(HyperShotConfig):
    """Defaults are the published settings for characters (Omniglot → EMNIST), one shot."""

    draws: int = Field(default=3, ge=1, le=100)
    """Samples per training task."""
    kl_weight: float = Field(default=1e-4, ge=0)


class BayesHyperShot(HyperShot):
    Config = BayesHyperShotConfig
    config: BayesHyperShotConfig

    def __init__(self, encoder: Encoder, config: BayesHyperShotConfig) -> None:
        super().__init__(encoder, config)
        ways = Span(config.ways, config.ways)
        self.traits = Traits(ways=ways, stochastic=True, representation="feed-forward")

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        """Answer with sampled weights; without noise with μ alone, which has no epistemic part."""
        if noise is None:
            return super().predict(weights, features)
        terms = weights.task["terms"]
        relations = 1 - unit_vectors(features) @ weights.rows["support"].transpose(1, 2)
        tasks, orders = weights.task["weight0"].shape[:2]
        part = max(1, _MOST_HIDDEN // max(1, tasks * orders * noise.samples * self.config.target_hidden))
        sharpness = self.calibration.inverse_temperature(terms)[:, None, None, None, None]
        spread = self.calibration.spread(terms)
        answers = []
        for some in relations.split(part, dim=1):
            log_probs = (self._sampled(weights, some, noise, spread) * sharpness).log_softmax(-1)
            members = (log_probs.logsumexp(1) - math.log(orders)).permute(0, 2, 3, 1)
            entropy = categorical_entropy(members.transpose(-1, -2)).mean(-1)
            answers.append((mean_log_probs(members, weights.class_mask), entropy))
        log_probs, expected = (torch.cat(each, dim=1) for each in zip(*answers, strict=True))
        novelty = relations.amin(-1)
        return Categorical(
            log_probs,
            expected,
            self.calibration.unknown(novelty, terms),
            self.calibration.set_levels(terms),
            noise.samples,
            novelty,
        )

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return HyperShot's loss of averaged logits plus the divergence, summed over weights."""
        embedded = embed_episodes(self.embed, episodes)
        weights = self._adapt(embedded.support, orders=1)
        total, nll = self._fit(weights, embedded)
        kl = torch.zeros_like(nll)
        for name in super()._written():
            kl = kl + gaussian_kl(weights.task[name], weights.task[_SPREAD + name], _PRIOR).flatten(1).sum(1)
        return Losses(total + self.config.kl_weight * kl, {"nll": nll.detach(), "kl": kl.detach()})

    def _written(self) -> dict[str, tuple[int, ...]]:
        shapes = super()._written()
        return shapes | {_SPREAD + name: shape for name, shape in shapes.items()}

    def _by_row(
        self, tensors: dict[str, Tensor], place: Int[Tensor, "tasks orders way"]
    ) -> dict[str, Tensor]:
        names = super()._written()
        mean = super()._by_row({name: tensors[name] for name in names}, place)
        spread = super()._by_row({name: tensors[_SPREAD + name] - _SHIFT for name in names}, place)
        return mean | {_SPREAD + name: value for name, value in spread.items()}

    def _training_logits(
        self, weights: TaskWeights, relations: Float[Tensor, "tasks query way"]
    ) -> Float[Tensor, "tasks orders query way"]:
        one = torch.ones_like(relations[:, 0, 0])
        return self._sampled(weights, relations, Noise(self.config.draws), one).mean(2)

    def _sampled(
        self,
        weights: TaskWeights,
        relations: Float[Tensor, "tasks query way"],
        noise: Noise,
        spread: Float[Tensor, "tasks"],
    ) -> Float[Tensor, "tasks orders samples query way"]:
        """Return the logits of each member; `spread` is a factor on the deviation of every weight."""
        tasks, orders = weights.task["weight0"].shape[:2]
        x = relations[:, None, None].expand(-1, orders, noise.samples, -1, -1)
        last = self.config.target_depth - 1
        for layer in range(last + 1):
            x = F.pad(F.relu(x) if layer else x, (0, 1), value=1.0)
            mean, log_variance = (_with_bias(weights, prefix, layer) for prefix in ("", _SPREAD))
            deviation = (0.5 * log_variance).exp() * spread[:, None, None, None]
            shape = (-1, -1, noise.samples, -1, -1)
            moments = linear_moments(x, mean[:, :, None].expand(shape), deviation[:, :, None].expand(shape))
            # Units of different layers need different keys.
            units = torch.arange(1, mean.shape[-2] + 1, device=x.device) + (layer + 1) * (1 << 32)
            keys = weights.class_key if layer == last else units.expand(tasks, -1)
            draws = noise.normal(weights.seed, keys).transpose(1, 2)
            x = moments[0] + moments[1] * draws[:, None, :, None]
        return x


def _with_bias(
    weights: TaskWeights, prefix: str, layer: int
) -> Float[Tensor, "tasks orders leave enter_and_one"]:
    weight, bias = (weights.task[f"{prefix}{name}{layer}"] for name in ("weight", "bias"))
    return torch.cat((weight, bias[..., None]), dim=-1)
