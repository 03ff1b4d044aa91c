"""MAML (Finn, Abbeel, Levine 2017, 1703.03400), on the head alone as ANIL (Raghu et al. 2020, 1909.09157).

    θ' = θ − α ∇L_support(θ), repeated;    outer loss: L_query(θ'), through the inner steps (or, first order, not).

L_support is the mean cross-entropy over the examples of a task. `adapts="head"` (ANIL) moves a linear classifier on
features, `adapts="all"` the whole network. The head starts in one of two ways:

* `ways` not given: at zero for every class (the zeroing trick of Kao et al. 2022, 2106.15367). Any way. Whatever
  start the classes shared would be the same, since the softmax does not see it.
* `ways` given, as published: at one learned row for each of N places, of which the classes take theirs in the order
  of their keys (digests of the labels), whatever order a client lists them in.

Options of MAML++ (Antoniou et al. 2019, 1810.09502): an inner rate per tensor and step, learned; and the loss after
every step, its weight moving to the last one early in training. Inner gradients are clipped, number by number, as the
authors do; steps that end in numbers that are not finite raise `LearnerError`.

BatchNorm never depends on queries: with "head" it is the encoder's, with running statistics; with "all" its
statistics are those of the support set (`models.fewshot.inner_network`), where published figures are transductive.

Task weights: a head row and an offset per class; with "all" the network's tensors and statistics too, one task at a
time, as its support and its convolutions are its own. Deterministic: there is no epistemic part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.func import grad

from models.bayes.calibration import Calibration
from models.encoders.base import Encoder
from models.fewshot.classes import cross_entropy, embed_episodes, per_log_way
from models.fewshot.inner_network import Fast, InnerNetwork
from models.fewshot.linear import answer, linear_logits, linear_weights
from models.fewshot.orders import refuse_other_ways
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import (
    Episodes,
    LearnerError,
    Losses,
    MetaLearner,
    Span,
    Support,
    TaskWeights,
    Traits,
    refuse_prior,
)

_HEAD_WEIGHT, _HEAD_BIAS = "head.weight", "head.bias"
_HEAD = (_HEAD_WEIGHT, _HEAD_BIAS)
_NETWORK, _STATISTICS = "network.", "statistics."
_LEAST_IMPORTANCE = 0.03
"""Share of 1/steps that the loss after an early step keeps, until the multi-step loss ends."""


class MamlConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    adapts: Literal["head", "all"] = "head"
    ways: int | None = Field(default=None, ge=2, le=100)
    """Classes of a task, always, each with a start of its own; None takes any number, from zero."""
    steps: int = Field(default=5, ge=1, le=50)
    """Inner steps in training."""
    answer_steps: int | None = Field(default=None, ge=1, le=100)
    """Inner steps when serving; None is as in training."""
    inner_lr: float = Field(default=0.4, gt=0)
    order: Literal["first", "second"] = "second"
    learned_rates: bool = False
    """Whether each tensor has a rate for each step, learned from `inner_lr` on; further steps take the last."""
    multi_step: bool = False
    multi_step_until: float = Field(default=0.15, gt=0, le=1)
    """Share of training after which the loss is that of the last step alone."""
    clip: float = Field(default=10.0, gt=0)
    """Bound on each number of an inner gradient."""


class Maml(MetaLearner):
    Config = MamlConfig

    def __init__(self, encoder: Encoder, config: MamlConfig) -> None:
        super().__init__()
        self.encoder = InnerNetwork(encoder) if config.adapts == "all" else encoder
        self.config = config
        self.calibration = Calibration()
        ways = config.ways
        self.traits = Traits(
            ways=Span(2) if ways is None else Span(ways, ways), representation="initialisation"
        )
        self.head = None
        if ways is not None:
            if encoder.dim is None:
                raise LearnerError("maml of a fixed way needs an encoder of fixed feature length")
            self.head = nn.Linear(encoder.dim, ways)
        self.adapted = (*_HEAD, *(() if self.inner is None else self.inner.start()))
        rates = torch.full((config.steps, len(self.adapted)), config.inner_lr)
        self.rates = nn.Parameter(rates) if config.learned_rates else None

    @property
    def inner(self) -> InnerNetwork | None:
        """The network, where it adapts."""
        return self.encoder if isinstance(self.encoder, InnerNetwork) else None

    def embed(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n *feature"]:
        features: Tensor = self.encoder(x)
        return features

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """Raises `LearnerError` where the inner steps diverge."""
        refuse_prior(prior)
        found: list[Fast] = []
        for group in self._groups(support):
            *_, last = self._descend(group, self.config.answer_steps or self.config.steps, frozen=False)
            found.append(self._measured(last, group))
        made = {name: torch.cat([fast[name] for fast in found]) for name in found[0]}
        if not all(bool(value.isfinite().all()) for value in made.values()):
            raise LearnerError("the inner steps diverge on this support set: its features are too large")
        weight, bias = made.pop(_HEAD_WEIGHT), made.pop(_HEAD_BIAS)
        return linear_weights(support, weight, bias, made)

    def predict(
        self,
        weights: TaskWeights,
        features: Float[Tensor, "tasks query *feature"],
        noise: Noise | None = None,
    ) -> Categorical:
        if self.inner is not None:
            own = [
                {name: value[task] for name, value in weights.task.items()} for task in range(len(features))
            ]
            features = torch.stack([self._network(fast, x) for fast, x in zip(own, features, strict=True)])
        return answer(self.calibration, weights, linear_logits(weights, features))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Cross-entropy of the known queries over log way, after the last inner step or weighed over all."""
        embedded = embed_episodes(self.embed, episodes)
        importance = self._importance(progress)
        parts, last = [], []
        for index, group in enumerate(self._groups(embedded.support)):
            one = slice(None) if self.inner is None else slice(index, index + 1)
            losses = []
            frozen = self.inner is not None and bool(episodes.unseen[index])
            for step, fast in enumerate(self._descend(group, self.config.steps, frozen)):
                if importance[step] or step == self.config.steps - 1:
                    log_probs = self._query_log_probs(fast, group, embedded.query[one])
                    nll = cross_entropy(log_probs, embedded.target[one], embedded.known[one])
                    losses.append(importance[step] * nll)
            parts.append(torch.stack(losses).sum(0))
            last.append(nll)
        return Losses(per_log_way(torch.cat(parts), episodes.n_way), {"nll": torch.cat(last).detach()})

    def _groups(self, support: Support) -> Iterator[Support]:
        """What descends together: heads all at once, networks each with its own real examples."""
        if self.config.ways is not None:
            refuse_other_ways(support, self.config.ways)
        if self.inner is None:
            blank = ~support.mask[..., None]
            yield replace(support, features=support.features.masked_fill(blank, 0))
            return
        assert support.targets is not None
        for task, real in enumerate(support.mask):
            one = slice(task, task + 1)
            yield Support(
                support.features[one, real],
                support.targets[one, real],
                support.mask[one, real],
                support.n_way[one],
                support.class_key[one],
                support.seed[one],
            )

    def _start(self, support: Support, frozen: bool) -> Fast:
        tasks, way = support.class_key.shape
        if self.head is None:
            dim = support.features.shape[-1] if self.inner is None else self.inner.dim
            assert dim is not None
            zero = self.calibration.temperature.new_zeros(tasks, way, dim)
            fast = {_HEAD_WEIGHT: zero, _HEAD_BIAS: zero[..., 0]}
        else:
            place = support.class_key.argsort(-1).argsort(-1)
            fast = {_HEAD_WEIGHT: self.head.weight[place], _HEAD_BIAS: self.head.bias[place]}
        if self.inner is not None:
            start = self.inner.start()
            fast |= {name: value.detach() if frozen else value for name, value in start.items()}
        return fast

    def _descend(self, support: Support, steps: int, frozen: bool) -> Iterator[Fast]:
        """The weights after each inner step. `frozen`: the network's start takes no outer gradient."""
        fast = self._start(support, frozen)
        gradient_of = grad(self._support_loss)
        for step in range(steps):
            gradients = gradient_of(fast, support)
            if self.config.order == "first":
                gradients = {name: value.detach() for name, value in gradients.items()}
            clip = self.config.clip
            fast = {
                name: value - self._rate(step, index) * gradients[name].clamp(-clip, clip)
                for index, (name, value) in enumerate((name, fast[name]) for name in self.adapted)
            }
            yield fast

    def _rate(self, step: int, index: int) -> Tensor | float:
        if self.rates is None:
            return self.config.inner_lr
        return self.rates[min(step, self.config.steps - 1), index]

    def _support_loss(self, fast: Fast, support: Support) -> Float[Tensor, ""]:
        """Mean over the examples of each task, summed over tasks: each task's gradient is its own."""
        features = support.features
        if self.inner is not None:
            features = self._inner_features(fast, support)[0]
        log_probs = _log_probs(fast, features, support.class_mask)
        assert support.targets is not None
        return cross_entropy(log_probs, support.targets, support.mask).sum()

    def _query_log_probs(
        self, fast: Fast, support: Support, query: Float[Tensor, "tasks query *feature"]
    ) -> Float[Tensor, "tasks query way"]:
        if self.inner is not None:
            own = {name: value[0] for name, value in self._measured(fast, support).items()}
            query = self._network(own, query[0])[None]
        return _log_probs(fast, query, support.class_mask)

    def _inner_features(self, fast: Fast, support: Support) -> tuple[Float[Tensor, "1 support d"], Fast]:
        assert self.inner is not None
        network = {name: value for name, value in fast.items() if name not in _HEAD}
        features, statistics = self.inner.features(network, support.features[0])
        return features[None], statistics

    def _measured(self, fast: Fast, support: Support) -> Fast:
        """Weights of one task with the statistics of its support set under them, as task weights name them."""
        if self.inner is None:
            return fast
        statistics = self._inner_features(fast, support)[1]
        named = {_NETWORK + name: value[None] for name, value in fast.items() if name not in _HEAD}
        named |= {_STATISTICS + name: value[None] for name, value in statistics.items()}
        return named | {name: fast[name] for name in _HEAD}

    def _network(self, task: Fast, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n d"]:
        """Features under the weights and statistics of one task."""
        assert self.inner is not None
        return self.inner.features(_under(task, _NETWORK), x, _under(task, _STATISTICS))[0]

    def _importance(self, progress: float) -> list[float]:
        """Of the loss after each step; the sum is 1."""
        config, steps = self.config, self.config.steps
        if not config.multi_step or progress >= config.multi_step_until:
            return [*[0.0] * (steps - 1), 1.0]
        early = max(1 - progress / config.multi_step_until, _LEAST_IMPORTANCE) / steps
        return [*[early] * (steps - 1), 1 - early * (steps - 1)]


def _log_probs(
    fast: Fast, features: Float[Tensor, "tasks n d"], present: Bool[Tensor, "tasks way"]
) -> Float[Tensor, "tasks n way"]:
    logits = features @ fast[_HEAD_WEIGHT].transpose(1, 2) + fast[_HEAD_BIAS][:, None]
    return logits.masked_fill(~present[:, None], -math.inf).log_softmax(-1)


def _under(named: Fast, prefix: str) -> Fast:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}
