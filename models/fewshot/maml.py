"""MAML (Finn, Abbeel, Levine 2017, 1703.03400), on the head alone as ANIL (Raghu et al. 2020, 1909.09157).

    θ' = θ − α ∇L_support(θ), repeated;    outer loss: L_query(θ'), through the inner steps (or, first order, not).

L_support is the mean cross-entropy over the examples of a task. `adapts="head"` (ANIL) moves a linear classifier on
features, `adapts="all"` the whole network. The head starts in one of two ways:

* `ways` not given: at zero for every class (the zeroing trick of Kao et al. 2022, 2106.15367). Any way. Any shared
  start would give the same answers, as it has no effect on a softmax.
* `ways` given, as published: at one learned row for each of N places, which the classes take in the order of their
  keys (digests of the labels), independent of the order in which a client lists them.

Options of MAML++ (Antoniou et al. 2019, 1810.09502) are in `models.fewshot.common.inner_loop`: learned rates, the
loss after every step, first-order gradients at first. Inner steps that diverge raise `LearnerError`.

The meta-loss is the mean over the tasks of a batch, as in the paper's code; HyperMAML's sums them, which is an outer
rate times the number of tasks.

BatchNorm never depends on queries: with "head" it is the encoder's, with running statistics; with "all" its
statistics are those of the support set (`models.fewshot.common.inner_network`), while published figures are
transductive. They are measured anew after every inner step, the purpose of the per-step statistics of MAML++; its
scales and offsets of BatchNorm are tensors that descend like all others.

Task weights: a head row and an offset per class; with "all" the network's tensors and statistics too, one task at a
time, as their support sets and convolutions differ. Deterministic: there is no epistemic part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.func import grad

from models.encoder_protocol import Encoder
from models.fewshot.common.class_order import refuse_other_ways
from models.fewshot.common.classification import (
    Classifier,
    cross_entropy,
    embed_episodes,
    fixed_length,
    per_log_way,
)
from models.fewshot.common.inner_loop import FastWeights, InnerLoopConfig, descend, outer_loss, plain_gradient
from models.fewshot.common.inner_network import InnerNetwork
from models.fewshot.common.linear_classifier import answer, linear_logits, linear_weights
from models.fewshot.common.per_task import alike, at_once, each_task, in_order
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import (
    Episodes,
    LearnerError,
    Losses,
    Span,
    Support,
    TaskWeights,
    Traits,
    Trial,
    refuse_prior,
)

_HEAD_WEIGHT, _HEAD_BIAS = "head.weight", "head.bias"
_HEAD = (_HEAD_WEIGHT, _HEAD_BIAS)
_NETWORK, _STATISTICS = "network.", "statistics."
_QUERY, _TARGET, _KNOWN = "query", "target", "known"


class MamlConfig(InnerLoopConfig):
    adapts: Literal["head", "all"] = "head"
    ways: int | None = Field(default=None, ge=2, le=100)
    """Number of classes of every task, each with its own start; None takes any number, from zero."""


class Maml(Classifier):
    Config = MamlConfig
    trial = Trial(steps=50)
    config: MamlConfig
    together: bool | None = None
    """Let the networks of all tasks descend at once; None chooses by device. Answers are the same."""

    def __init__(self, encoder: Encoder, config: MamlConfig) -> None:
        super().__init__(InnerNetwork(encoder) if config.adapts == "all" else encoder, config)
        ways = config.ways
        self.traits = Traits(
            ways=Span(2) if ways is None else Span(ways, ways), representation="initialisation"
        )
        self.head = None
        if ways is not None:
            self.head = nn.Linear(fixed_length(encoder), ways)
        self.adapted = (*_HEAD, *(() if self.inner is None else self.inner.start()))
        rates = torch.full((config.steps, len(self.adapted)), config.inner_lr)
        self.rates = nn.Parameter(rates) if config.learned_rates else None

    @property
    def inner(self) -> InnerNetwork | None:
        """The network, if it adapts."""
        return self.encoder if isinstance(self.encoder, InnerNetwork) else None

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """Take the inner steps. Raises `LearnerError` if they diverge."""
        refuse_prior(prior)
        self._check_ways(support)
        if self.inner is None:
            made = self._adapted(_blanked(support))
        else:
            together = self._together(support.features)
            made = in_order(
                [
                    (
                        some.index,
                        each_task(lambda one: self._adapted(Support(**one)), vars(some.support), together),
                    )
                    for some in alike(support, support.mask.new_zeros(len(support.mask)))
                ]
            )
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
            tensors = {**weights.task, _QUERY: features}
            features = each_task(self._network, tensors, self._together(features))[_QUERY]
        return answer(self.calibration, weights, linear_logits(weights, features))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the cross-entropy of known queries over log way, after the last inner step or weighed over all."""
        embedded = embed_episodes(self.embed, episodes)
        support = embedded.support
        self._check_ways(support)
        queries = {_QUERY: embedded.query, _TARGET: embedded.target, _KNOWN: embedded.known}
        if self.inner is None:
            made = self._outer(_blanked(support), queries, progress, frozen=False)
        else:
            parts = []
            for some in alike(support, episodes.unseen):
                tensors = {
                    **vars(some.support),
                    **{name: value[some.index] for name, value in queries.items()},
                }

                def outer(one: FastWeights, frozen: bool = some.marked) -> FastWeights:
                    own = {name: one.pop(name) for name in queries}
                    return self._outer(Support(**one), own, progress, frozen)

                parts.append((some.index, each_task(outer, tensors, self._together(support.features))))
            made = in_order(parts)
        return Losses(per_log_way(made["total"], episodes.n_way), {"nll": made["nll"].detach()})

    def _together(self, x: Tensor) -> bool:
        return at_once(x.device) if self.together is None else self.together

    def _check_ways(self, support: Support) -> None:
        if self.config.ways is not None:
            refuse_other_ways(support, self.config.ways)

    def _adapted(self, support: Support) -> FastWeights:
        steps = self.config.answer_steps or self.config.steps
        *_, last = self._descend(support, steps, frozen=False, first_order=True)
        return self._measured(last, support)

    def _outer(self, support: Support, queries: FastWeights, progress: float, frozen: bool) -> FastWeights:
        """Return the outer loss of each task, weighed and after the last step."""
        config = self.config

        def outer(fast: FastWeights) -> Float[Tensor, "tasks"]:
            log_probs = self._query_log_probs(fast, support, queries[_QUERY])
            return cross_entropy(log_probs, queries[_TARGET], queries[_KNOWN])

        steps = self._descend(support, config.steps, frozen, config.first_order(progress))
        total, nll = outer_loss(steps, config.importance(progress), outer)
        return {"total": total, "nll": nll}

    def _descend(
        self, support: Support, steps: int, frozen: bool, first_order: bool
    ) -> Iterator[FastWeights]:
        """Yield the weights after each step. With `frozen` the network's start takes no outer gradient."""
        # Only the functional one works under vmap, and it builds no graph from a frozen start.
        functional = self.inner is not None and (frozen or self._together(support.features))
        differentiated = grad if functional else plain_gradient
        gradient_of = differentiated(lambda fast: self._support_loss(fast, support))
        start = self._start(support, frozen)
        return descend(start, gradient_of, self._rate, steps, self.config.clip, first_order=first_order)

    def _rate(self, step: int, name: str) -> Tensor | float:
        if self.rates is None:
            return self.config.inner_lr
        return self.rates[min(step, self.config.steps - 1), self.adapted.index(name)]

    def _start(self, support: Support, frozen: bool) -> FastWeights:
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

    def _support_loss(self, fast: FastWeights, support: Support) -> Float[Tensor, ""]:
        """Return the mean over the examples of each task, summed over tasks: each task's gradient is its own."""
        features = support.features
        if self.inner is not None:
            features = self.inner.features(_of_network(fast), features[0])[None]
        log_probs = _log_probs(fast, features, support.class_mask)
        assert support.targets is not None
        return cross_entropy(log_probs, support.targets, support.mask).sum()

    def _query_log_probs(
        self, fast: FastWeights, support: Support, query: Float[Tensor, "tasks query *feature"]
    ) -> Float[Tensor, "tasks query way"]:
        if self.inner is not None:
            query = self._network({**self._measured(fast, support), _QUERY: query})[_QUERY]
        return _log_probs(fast, query, support.class_mask)

    def _measured(self, fast: FastWeights, support: Support) -> FastWeights:
        """Return weights of one task and the statistics of its support set under them, named as in task weights."""
        if self.inner is None:
            return fast
        statistics = self.inner.statistics(_of_network(fast), support.features[0])
        named = {_NETWORK + name: value[None] for name, value in _of_network(fast).items()}
        named |= {_STATISTICS + name: value[None] for name, value in statistics.items()}
        return named | {name: fast[name] for name in _HEAD}

    def _network(self, task: FastWeights) -> FastWeights:
        """Return features of the queries of one task, under its weights and statistics."""
        assert self.inner is not None
        found = self.inner.features(_under(task, _NETWORK), task[_QUERY][0], _under(task, _STATISTICS))
        return {_QUERY: found[None]}


def _blanked(support: Support) -> Support:
    return replace(support, features=support.features.masked_fill(~support.mask[..., None], 0))


def _log_probs(
    fast: FastWeights, features: Float[Tensor, "tasks n d"], present: Bool[Tensor, "tasks way"]
) -> Float[Tensor, "tasks n way"]:
    logits = features @ fast[_HEAD_WEIGHT].transpose(1, 2) + fast[_HEAD_BIAS][:, None]
    return logits.masked_fill(~present[:, None], -math.inf).log_softmax(-1)


def _of_network(fast: FastWeights) -> FastWeights:
    return {name: value for name, value in fast.items() if name not in _HEAD}


def _under(named: FastWeights, prefix: str) -> FastWeights:
    """Return the tensors of one task under a prefix, without the axis of tasks."""
    return {name.removeprefix(prefix): value[0] for name, value in named.items() if name.startswith(prefix)}
