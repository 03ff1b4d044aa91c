"""The two batched calls: support sets of many tasks to weights, queries of many tasks to answers.

Tasks of a batch are padded to its largest. Where one huge task would make the others carry much padding,
the batch is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from app.serving.arena import Arena
from app.serving.calls import AdaptJob, Job, PredictJob
from app.serving.errors import NotFinite
from models.noise import Noise
from models.predictive import Predictive
from models.protocol import Support, TaskWeights
from models.weights import tensors

_FREE_PADDING = 1 << 14
"""Padded cells that cost less than another call would."""
_MOST = 1 << 22
"""Padded cells, times samples, of one call: what it holds in memory at once."""
_WORDS = 1 << 23
"""Of generated networks that are gathered for one call, 64 MB: a stream has many."""


def cut(group: Sequence[Job]) -> list[list[Job]]:
    """Batches in which padding at most doubles the work, and whose memory is bounded."""
    first = group[0]
    most, together = _MOST, len(group)
    if isinstance(first, PredictJob):
        most //= max(1, first.samples)
        together = max(1, _WORDS // max(1, first.source.layout.task_words))
    batches: list[list[Job]] = []
    needed, high = 0, (0, 0)
    for (way, examples), job in sorted(((job.cells, job) for job in group), key=itemgetter(0)):
        needed, high = needed + way * examples, (max(high[0], way), max(high[1], examples))
        padded = (len(batches[-1]) + 1 if batches else 1) * high[0] * high[1]
        room = batches and len(batches[-1]) < together
        if room and padded <= min(most, max(_FREE_PADDING, 2 * needed)):
            batches[-1].append(job)
        else:
            batches.append([job])
            needed, high = way * examples, (way, examples)
    return batches


def adapt(jobs: Sequence[AdaptJob], arena: Arena) -> list[TaskWeights | NotFinite]:
    """Weights of each job on the CPU, or why there are none. The jobs are of one group."""
    served, device = jobs[0].served, jobs[0].features.device
    features, sizes = _pad([job.features for job in jobs])
    support, way = features.shape[1], max(len(job.class_keys) for job in jobs)
    targets = None
    if jobs[0].y is not None:
        targets, _ = _pad([torch.from_numpy(job.y) for job in jobs if job.y is not None])
    class_key = np.zeros((len(jobs), way), dtype=np.int64)
    for index, job in enumerate(jobs):
        class_key[index, : len(job.class_keys)] = job.class_keys
    priors = [job.prior for job in jobs if job.prior is not None]
    weights = served.learner.adapt(
        Support(
            features,
            None if targets is None else targets.to(device),
            torch.arange(support, device=device) < torch.tensor(sizes, device=device)[:, None],
            torch.tensor([len(job.class_keys) for job in jobs], device=device),
            torch.from_numpy(class_key).to(device),
            torch.tensor([job.seed for job in jobs], device=device),
        ),
        arena.gather(priors) if priors else None,
    )
    return [_own(weights.select(index)) for index in range(len(jobs))]


def predict(jobs: Sequence[PredictJob], arena: Arena) -> list[Predictive | NotFinite]:
    """Answers to each job on the CPU, or why there are none. The jobs are of one group."""
    served, samples = jobs[0].served, jobs[0].samples
    features, _ = _pad([job.features for job in jobs])
    weights = arena.gather([job.source for job in jobs])
    batch = served.learner.predict(weights, features, Noise(samples) if samples else None)
    if features.device.type != "cpu":
        batch = _on_cpu(batch)
    answers = [batch]
    if len(jobs) > 1:
        answers = [batch.at(index, job.features.shape[0], job.way) for index, job in enumerate(jobs)]
    if not _has_nan(batch):
        return list(answers)
    return [
        NotFinite("the answer is not a number", support=False) if _has_nan(answer) else answer
        for answer in answers
    ]


def _pad(
    parts: Sequence[Shaped[Tensor, "n *rest"]],
) -> tuple[Shaped[Tensor, "tasks most *rest"], list[int]]:
    """Ragged parts as one batch, and the length of each."""
    sizes = [part.shape[0] for part in parts]
    most = max(sizes)
    if len(parts) == 1:
        return parts[0][None], sizes
    if min(sizes) == most:
        return torch.cat(list(parts)).view(len(parts), most, *parts[0].shape[1:]), sizes
    padded = parts[0].new_zeros(len(parts), most, *parts[0].shape[1:])
    for index, part in enumerate(parts):
        padded[index, : part.shape[0]] = part
    return padded, sizes


def _own(weights: TaskWeights) -> TaskWeights | NotFinite:
    """The weights of one task in memory of their own: a view would keep its whole batch alive."""
    if not all(bool(value.isfinite().all()) for _, value in tensors(weights)):
        return NotFinite("the weights of this support set are not finite", support=True)
    return TaskWeights(
        task={name: value.detach().cpu().clone() for name, value in weights.task.items()},
        rows={name: value.detach().cpu().clone() for name, value in weights.rows.items()},
        n_way=weights.n_way.cpu().clone(),
        class_key=weights.class_key.cpu().clone(),
        seed=weights.seed.cpu().clone(),
    )


def _tensors(predictive: Predictive) -> dict[str, Tensor]:
    return {name: value for name, value in vars(predictive).items() if isinstance(value, Tensor)}


def _on_cpu(predictive: Predictive) -> Predictive:
    return replace(predictive, **{name: value.cpu() for name, value in _tensors(predictive).items()})  # type: ignore[type-var]


def _has_nan(predictive: Predictive) -> bool:
    return any(bool(value.isnan().any()) for value in _tensors(predictive).values())
