"""Memory-augmented neural networks (Santoro et al. 2016, 1605.06065): the support set is a stream, read once.

At step t an LSTM sees the features of example t, the label of example t − 1 and what it recalled last, and

    (h_t, c_t) = LSTM([f(x_t) ; y_(t−1) ; recalled_(t−1)]),
    M_t, recalled_t = access(M_(t−1); key, strength and gate of h_t),
    p(y_t) = softmax(W [h_t ; recalled_t] + b).

A label comes one step late, so an answer at t owes nothing to y_t, and x_t must stay in memory until y_t comes. The
memory is that of `models.fewshot.common.least_used_memory`. A query is one more step, with the last label of the
stream, on a copy that is thrown away: queries never write, and the next query finds the memory as the stream left it.

Labels are one-hot over `ways` places: a fixed way. Classes take places in the order of the digests of their labels;
in training a class is at a random place in each episode, as published. Left open by the paper, or different from
it: the gate is read off h_t per head, key strengths are learned, the loss is a mean over the
predictions of a task, while the paper sums them (streams here differ in length), queries count as predictions, and a
share of the training streams (`in_blocks`) comes class by class, like support sets that nobody has shuffled.

Task weights: slots, usage, reading weights, recall, LSTM state and last label, about 25 kB at the published sizes.
The order of the support set matters. Deterministic: there is no epistemic part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.bayes.calibration import task_terms
from models.encoder_protocol import Encoder
from models.fewshot.common.class_order import refuse_other_ways
from models.fewshot.common.classification import (
    Classifier,
    class_members,
    embed_episodes,
    fixed_length,
    per_log_way,
)
from models.fewshot.common.least_used_memory import Access, Memory, access
from models.fewshot.common.linear_classifier import answer
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


class MannConfig(BaseModel):
    """Defaults are the published sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ways: int = Field(default=5, ge=2, le=100)
    """Number of classes of every task."""
    hidden: int = Field(default=200, ge=1, le=2048)
    slots: int = Field(default=128, ge=1, le=2048)
    width: int = Field(default=40, ge=1, le=1024)
    heads: int = Field(default=4, ge=1, le=16)
    decay: float = Field(default=0.99, ge=0, le=1)
    """γ of the usage."""
    writes: Literal["key", "value"] = "key"
    """Content of a written slot: the key that is read with, as published, or a separate vector."""
    in_blocks: float = Field(default=0.25, ge=0, le=1)
    """Share of the training streams in which the examples of a class follow each other; 0 as published."""


@dataclass(frozen=True)
class State:
    """State after a stream."""

    memory: Memory
    hidden: Float[Tensor, "tasks hidden"]
    cell: Float[Tensor, "tasks hidden"]
    label: Float[Tensor, "tasks ways"]
    """One-hot place of the last example, an input of the next step; 0 before the first."""

    def tensors(self) -> dict[str, Tensor]:
        return {**vars(self.memory), "hidden": self.hidden, "cell": self.cell, "label": self.label}

    @classmethod
    def of(cls, named: dict[str, Tensor]) -> State:
        memory = Memory(*(named[name] for name in ("slots", "usage", "read", "recalled")))
        return cls(memory, named["hidden"], named["cell"], named["label"])

    def each(self, change: Callable[[str, Tensor], Tensor]) -> State:
        return State.of({name: change(name, value) for name, value in self.tensors().items()})


class Mann(Classifier):
    Config = MannConfig
    # It must learn to remember first, so there is little to see in these tasks.
    trial = Trial(
        tasks="axes",
        encoder="identity",
        encoder_hparams={"dim": 8},
        hparams={"ways": 2, "hidden": 32, "slots": 16, "width": 12, "heads": 2},
        steps=170,
        lr=2e-2,
        floor=0.5,
    )
    config: MannConfig

    def __init__(self, encoder: Encoder, config: MannConfig) -> None:
        super().__init__(encoder, config)
        if config.heads > config.slots:
            raise LearnerError(f"{config.heads} heads need as many slots, not {config.slots}")
        ways = Span(config.ways, config.ways)
        self.traits = Traits(ways=ways, order_dependent=True, representation="black-box memory")
        recalled = config.heads * config.width
        self.controller = nn.LSTMCell(fixed_length(encoder) + config.ways + recalled, config.hidden)
        self.vectors = 2 if config.writes == "value" else 1
        self.asking = nn.Linear(config.hidden, config.heads * (self.vectors * config.width + 2))
        self.output = nn.Linear(config.hidden + recalled, config.ways)

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        state, _ = self.follow(support)
        return TaskWeights(
            task={
                **state.tensors(),
                "terms": task_terms(support.n_way, class_members(support).sum(1)),
            },
            rows={},
            n_way=support.n_way,
            class_key=support.class_key,
            seed=support.seed,
        )

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        state = State.of({n: v for n, v in weights.task.items() if n != "terms"})
        logits = _by_class(self.query(state, features), _places(weights.class_key))
        return answer(self.calibration, weights, logits)

    def follow(self, support: Support) -> tuple[State, Float[Tensor, "tasks support way"]]:
        """Return the state after the stream, and the logits at each step, before its label.

        Padding is skipped: it neither writes nor moves the controller.
        """
        refuse_other_ways(support, self.config.ways)
        assert support.targets is not None
        places = _places(support.class_key)
        labels = F.one_hot(places.gather(1, support.targets), self.config.ways).to(support.features)
        state, logits = self._start(support.features), []
        for step in range(support.features.shape[1]):
            after, logit = self._step(state, support.features[:, step])
            after = replace(after, label=labels[:, step])
            state = _where(support.mask[:, step], after, state)
            logits.append(logit)
        return state, _by_class(torch.stack(logits, 1), places)

    def query(
        self, state: State, features: Float[Tensor, "tasks query d"]
    ) -> Float[Tensor, "tasks query places"]:
        """Take one more step for each query, all from the same state."""
        tasks, queries = features.shape[:2]
        copies = state.each(lambda _, value: value.repeat_interleave(queries, 0))
        _, logits = self._step(copies, features.flatten(0, 1))
        return logits.view(tasks, queries, -1)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the mean cross-entropy over the steps of a stream and the known queries after it, over log way."""
        embedded = embed_episodes(self.embed, episodes)
        support = shuffled(embedded.support, self.config.in_blocks)
        state, followed = self.follow(support)
        assert support.targets is not None
        answered = _by_class(self.query(state, embedded.query), _places(support.class_key))
        stream = _surprise(followed, support.targets, support.mask)
        query = _surprise(answered, embedded.target, embedded.known)
        steps, known = support.mask.sum(1), embedded.known.sum(1)
        total = (stream + query) / (steps + known)
        parts = {"stream": stream / steps, "nll": query / known.clamp_min(1)}
        return Losses(
            per_log_way(total, episodes.n_way), {name: part.detach() for name, part in parts.items()}
        )

    def _start(self, like: Tensor) -> State:
        config, tasks = self.config, len(like)
        zero = like.new_zeros(tasks, config.hidden)
        memory = Memory.empty(tasks, config.heads, config.slots, config.width, like)
        return State(memory, zero, zero, like.new_zeros(tasks, config.ways))

    def _step(
        self, state: State, features: Float[Tensor, "tasks d"]
    ) -> tuple[State, Float[Tensor, "tasks places"]]:
        """Take one step, which reads the label of the example before and not its own."""
        config = self.config
        seen = torch.cat((features, state.label, state.memory.recalled.flatten(1)), 1)
        hidden, cell = self.controller(seen, (state.hidden, state.cell))
        asking = self.asking(hidden).unflatten(1, (config.heads, -1))
        *vectors, scalars = asking.split((*[config.width] * self.vectors, 2), dim=-1)
        strength, gate = 1 + F.softplus(scalars[..., 0]), scalars[..., 1].sigmoid()
        request = Access(vectors[0].tanh(), vectors[-1].tanh(), strength, gate)
        memory = access(state.memory, request, config.decay)
        logits: Tensor = self.output(torch.cat((hidden, memory.recalled.flatten(1)), 1))
        return State(memory, hidden, cell, state.label), logits


def shuffled(support: Support, in_blocks: float) -> Support:
    """Return each task's examples in a random order, padding last; a share of the tasks class by class.

    The order is keyed by the task's seed, so that neighbours in a batch do not matter.
    """
    assert support.targets is not None
    size = support.mask.shape[1]
    draws = Noise(size + 1).normal(support.seed, torch.zeros_like(support.seed)[:, None])[:, 0]
    blocks = torch.special.ndtr(draws[:, :1]) < in_blocks
    own = draws[:, 1:].masked_fill(~support.mask, torch.inf)
    order = own.argsort(dim=-1, stable=True)
    # In blocks a class comes at the place of its first example.
    same = support.targets[:, :, None] == support.targets[:, None]
    first = own[:, None].masked_fill(~same, torch.inf).amin(-1)
    came = torch.where(blocks & support.mask, first, torch.where(support.mask, 0.0, torch.inf))
    order = order.gather(1, came.gather(1, order).argsort(dim=-1, stable=True))
    rows = torch.arange(len(order), device=order.device)[:, None]
    return replace(
        support,
        features=support.features[rows, order],
        targets=support.targets[rows, order],
        mask=support.mask[rows, order],
    )


def _places(class_key: Int[Tensor, "tasks way"]) -> Int[Tensor, "tasks way"]:
    """Return the place of each class row: its rank by class key."""
    return class_key.argsort(-1).argsort(-1)


def _by_class(
    logits: Float[Tensor, "tasks n places"], places: Int[Tensor, "tasks way"]
) -> Float[Tensor, "tasks n way"]:
    return logits.gather(-1, places[:, None].expand_as(logits))


def _where(real: Bool[Tensor, "tasks"], new: State, old: State) -> State:
    if bool(real.all()):
        return new
    before = old.tensors()

    def chosen(name: str, value: Tensor) -> Tensor:
        return torch.where(real.view(-1, *[1] * (value.ndim - 1)), value, before[name])

    return new.each(chosen)


def _surprise(
    logits: Float[Tensor, "tasks n way"], target: Int[Tensor, "tasks n"], real: Bool[Tensor, "tasks n"]
) -> Float[Tensor, "tasks"]:
    """Return −Σ log p of the real targets."""
    picked = logits.log_softmax(-1).gather(-1, target.clamp_min(0)[..., None])[..., 0]
    return -torch.where(real, picked, 0.0).sum(1)
