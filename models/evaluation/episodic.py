"""Evaluation of a learner on tasks of fixed way and shot, over features embedded once.

`predict` is inductive for every learner here, so embedding the whole set first gives the same answers as
embedding each task, at a small part of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.evaluation import scores
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import FOREIGN, MetaLearner, Support, TaskWeights, Traits

SAMPLES = 32
_TASKS_AT_ONCE = 50
_LOGITS_AT_ONCE = 2_000_000
"""Bound on tasks × queries × ways of one batch; learners that sample need `SAMPLES` times as much memory."""
_EMBED_AT_ONCE = 1024

Draw = tuple[np.ndarray, np.ndarray, np.ndarray]
"""One task: its classes, and the positions of its support set and of its queries."""


@dataclass(frozen=True)
class Features:
    """A data set after the encoder. `domains` is the domain of each class."""

    values: Float[Tensor, "n *feature"]
    members: list[np.ndarray]
    domains: np.ndarray

    @property
    def smallest(self) -> int:
        """Examples of the smallest class."""
        return min(map(len, self.members))

    def hold(self, cell: Cell) -> bool:
        """Return True if tasks of a cell can be drawn, foreign queries aside."""
        return cell.way <= len(self.members) and cell.shot + cell.queries <= self.smallest


@dataclass(frozen=True)
class Cell:
    """One protocol: `way`-way `shot`-shot with `queries` per class and `foreign` foreign ones."""

    way: int
    shot: int
    queries: int = 15
    foreign: int = 0
    """Foreign queries per task, of classes drawn from the same pool."""
    within_domain: bool = False


def cells_of(traits: Traits, ways: Sequence[int], shots: Sequence[int], queries: int = 15) -> list[Cell]:
    """Return every way with every shot that the learner takes; if its way is fixed, that one."""
    return [
        Cell(way, shot, queries) for way in traits.ways.among(ways) for shot in shots if shot in traits.shots
    ]


@dataclass(frozen=True)
class Batch:
    """Answers to some tasks of a cell. Foreign queries have target `FOREIGN`."""

    answer: Categorical
    weights: TaskWeights
    target: Int[Tensor, "tasks query"]
    classes: Int[Tensor, "tasks way"]
    query: Float[Tensor, "tasks query *feature"]

    @property
    def known(self) -> Bool[Tensor, "tasks query"]:
        return self.target != FOREIGN

    @torch.no_grad()
    def without_noise(self, learner: MetaLearner) -> Batch:
        """Answer the queries by the mean weights, as papers on Bayesian methods do to measure accuracy."""
        answer = learner.predict(self.weights, self.query)
        assert isinstance(answer, Categorical)
        return replace(self, answer=answer)

    def slim(self) -> Batch:
        """Drop weights and queries, which would fill the memory for many tasks."""
        bare = replace(self.weights, task={}, rows={})
        return replace(self, weights=bare, query=self.query[..., :0])


@torch.no_grad()
def embed_all(learner: MetaLearner, inputs: Tensor, labels: Tensor, domains: Tensor) -> Features:
    device = next(iter(learner.parameters()), torch.zeros(())).device
    values = torch.cat([learner.embed(part.to(device)).cpu() for part in inputs.split(_EMBED_AT_ONCE)])
    counts = torch.bincount(labels)
    members = [m.numpy() for m in labels.argsort(stable=True).split(counts.tolist())]
    return Features(values, members, domains.numpy())


def answers(
    learner: MetaLearner, features: Features, cell: Cell, tasks: int, seed: int, *, renamed: bool = False
) -> Iterator[Batch]:
    """Answer `tasks` random tasks, the same for every learner with the same data and seed.

    `renamed` reverses the order of the class keys, as other labels would.
    """
    yield from answer_draws(
        learner, features, cell, draws(features, cell, tasks, seed), seed, renamed=renamed
    )


def draws(features: Features, cell: Cell, tasks: int, seed: int) -> list[Draw]:
    """Draw `tasks` tasks: the same for all features with the same members and domains."""
    rng = np.random.default_rng((seed, cell.way, cell.shot, cell.foreign, cell.within_domain))
    return [draw(rng, features, cell) for _ in range(tasks)]


def answer_draws(
    learner: MetaLearner,
    features: Features,
    cell: Cell,
    drawn: Sequence[Draw],
    seed: int,
    *,
    renamed: bool = False,
) -> Iterator[Batch]:
    """Answer tasks that are drawn already, some at a time. `seed` keys the noise of each."""
    learner = learner.eval()
    logits = cell.way * (cell.way * cell.queries + cell.foreign)
    at_once = max(1, min(_TASKS_AT_ONCE, _LOGITS_AT_ONCE // logits))
    for start in range(0, len(drawn), at_once):
        part = drawn[start : start + at_once]
        yield _answer(learner, features, cell, part, 1_000_003 * seed + start, renamed)


@torch.no_grad()
def _answer(
    learner: MetaLearner,
    features: Features,
    cell: Cell,
    drawn: Sequence[Draw],
    seed: int,
    renamed: bool,
) -> Batch:
    device = next(iter(learner.parameters()), torch.zeros(())).device
    classes, support, query = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    count = len(drawn)
    support_y = torch.arange(cell.way).repeat_interleave(cell.shot).expand(count, -1)
    target = torch.arange(cell.way).repeat_interleave(cell.queries).expand(count, -1)
    target = torch.cat((target, torch.full((count, cell.foreign), FOREIGN)), dim=1)
    keys = torch.arange(1, cell.way + 1)
    batch = Support.of(
        features.values[support].to(device),
        support_y.to(device),
        class_key=(keys.flip(0) if renamed else keys).expand(count, -1).to(device),
        seed=torch.arange(seed, seed + count, device=device),
    )
    weights = learner.adapt(batch)
    queries = features.values[query].to(device)
    answer = learner.predict(weights, queries, Noise(SAMPLES) if learner.traits.stochastic else None)
    if not isinstance(answer, Categorical):
        raise TypeError(f"{type(learner).__name__} does not classify")
    return Batch(answer, weights, target.to(device), classes, queries)


def draw(rng: np.random.Generator, features: Features, cell: Cell) -> Draw:
    """Draw classes, positions of the support set (by class) and of the queries (by class, foreign last)."""
    candidates = np.arange(len(features.members))
    if cell.within_domain:
        sizes = np.bincount(features.domains)
        large = np.flatnonzero(sizes > cell.way)
        candidates = np.flatnonzero(features.domains == large[rng.integers(len(large))])
    order = rng.permutation(candidates)
    support, query = [], []
    for label in order[: cell.way]:
        picked = rng.choice(features.members[label], cell.shot + cell.queries, replace=False)
        support.append(picked[: cell.shot])
        query.append(picked[cell.shot :])
    strangers = order[cell.way :]
    if cell.foreign:
        query += [rng.choice(features.members[label], 1) for label in rng.choice(strangers, cell.foreign)]
    return order[: cell.way], np.concatenate(support), np.concatenate(query)


def accuracy(batch: Batch) -> Float[Tensor, "tasks"]:
    """Share of known queries answered right, per task."""
    right = (batch.answer.log_probs.argmax(-1) == batch.target) & batch.known
    return right.sum(1) / batch.known.sum(1)


def nll(batch: Batch) -> Float[Tensor, "tasks"]:
    """Mean negative log-likelihood of the known queries, in nats, per task."""
    picked = batch.answer.log_probs.gather(-1, batch.target.clamp_min(0)[..., None])[..., 0]
    return -(torch.where(batch.known, picked, 0.0).sum(1) / batch.known.sum(1))


def summary(batches: list[Batch]) -> dict[str, Any]:
    """Accuracy and NLL with their intervals over tasks, calibration error and Brier score over queries."""
    probabilities = torch.cat([batch.answer.probabilities[batch.known] for batch in batches])
    target = torch.cat([batch.target[batch.known] for batch in batches])
    confidence, label = probabilities.max(-1)
    return {
        "accuracy": asdict(scores.MeanEstimate.over(torch.cat([accuracy(batch) for batch in batches]))),
        "nll": asdict(scores.MeanEstimate.over(torch.cat([nll(batch) for batch in batches]))),
        "ece": scores.calibration_error(confidence, label == target),
        "brier": scores.brier(probabilities, target),
    }
