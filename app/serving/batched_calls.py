"""The two batched calls: support sets of many tasks to weights, queries of many tasks to answers.

Tasks of a batch are padded to the largest one. If one huge task would make the others carry much padding, the
batch is split.
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
from app.serving.calls import AdaptCall, Call, PredictCall
from app.serving.errors import NotFiniteError
from models.noise import Noise
from models.predictive import Categorical, Predictive
from models.protocol import FIT, Support, TaskWeights
from models.weights import tensors

_FREE_PADDING = 1 << 14
"""Padded cells that cost less than another call would."""
_MOST = 1 << 22
"""Padded cells, times samples, of one batched call: the bound on its memory."""
_FAR = 1e17
"""Numbers whose squares, as many as a vector may hold, are beyond 32-bit floats."""
_WORDS = 1 << 23
"""Words of the generated networks gathered for one batched call, 64 MB: a stream has many."""


def cut(group: Sequence[Call]) -> list[list[Call]]:
    """Split calls of one group into batches in which padding at most doubles the work and memory is bounded."""
    first = group[0]
    most, together = _MOST, len(group)
    if isinstance(first, PredictCall):
        most //= max(1, first.samples)
        together = max(1, _WORDS // max(1, first.source.layout.task_words))
    batches: list[list[Call]] = []
    needed, high = 0, (0, 0)
    for (way, examples), call in sorted(((call.cells, call) for call in group), key=itemgetter(0)):
        needed, high = needed + way * examples, (max(high[0], way), max(high[1], examples))
        padded = (len(batches[-1]) + 1 if batches else 1) * high[0] * high[1]
        room = batches and len(batches[-1]) < together
        if room and padded <= min(most, max(_FREE_PADDING, 2 * needed)):
            batches[-1].append(call)
        else:
            batches.append([call])
            needed, high = way * examples, (way, examples)
    return batches


def adapt(calls: Sequence[AdaptCall], arena: Arena) -> list[TaskWeights | NotFiniteError]:
    """Return the weights of each call on the CPU, or why there are none. The calls are of one group."""
    served, device = calls[0].served, calls[0].features.device
    features, sizes = _pad([call.features for call in calls])
    support, way = features.shape[1], max(len(call.class_keys) for call in calls)
    targets = None
    if calls[0].y is not None:
        targets, _ = _pad([torch.from_numpy(call.y) for call in calls if call.y is not None])
    class_key = np.zeros((len(calls), way), dtype=np.int64)
    for index, call in enumerate(calls):
        class_key[index, : len(call.class_keys)] = call.class_keys
    priors = [call.prior for call in calls if call.prior is not None]
    support_set = Support(
        features,
        None if targets is None else targets.to(device),
        torch.arange(support, device=device) < torch.tensor(sizes, device=device)[:, None],
        torch.tensor([len(call.class_keys) for call in calls], device=device),
        torch.from_numpy(class_key).to(device),
        torch.tensor([call.seed for call in calls], device=device),
    )
    weights = served.learner.adapt(support_set, arena.gather(priors) if priors else None)
    # Answers of other kinds have no place for it, and with a prior only some of the examples are here.
    if served.learner.traits.kind == "classification" and not priors:
        fit = served.encoder.familiarity(features, support_set.targets, support_set.mask)
        if fit is not None:
            weights = replace(weights, task={**weights.task, FIT: fit})
    return [_own(weights.select(index)) for index in range(len(calls))]


def predict(calls: Sequence[PredictCall], arena: Arena) -> list[Predictive | NotFiniteError]:
    """Return the answers to each call on the CPU, or why there are none. The calls are of one group."""
    served, samples = calls[0].served, calls[0].samples
    features, _ = _pad([call.features for call in calls])
    weights = arena.gather([call.source for call in calls])
    batch = served.learner.predict(weights, features, Noise(samples) if samples else None)
    if isinstance(batch, Categorical):
        batch = replace(batch, fit=weights.task.get(FIT))
    if features.device.type != "cpu":
        batch = _on_cpu(batch)
    answers = [batch]
    if len(calls) > 1:
        answers = [batch.at(index, call.features.shape[0], call.way) for index, call in enumerate(calls)]
    far = [_far(call.features) for call in calls]
    if not any(far) and not _has_nan(batch):
        return list(answers)
    return [
        NotFiniteError("the answer is not a number", support=False)
        if _has_nan(answer) or (outside and _is_lost(answer, call.features))
        else answer
        for call, outside, answer in zip(calls, far, answers, strict=True)
    ]


def _pad(
    parts: Sequence[Shaped[Tensor, "n *rest"]],
) -> tuple[Shaped[Tensor, "tasks most *rest"], list[int]]:
    """Return ragged parts as one padded batch, and the length of each."""
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


def _own(weights: TaskWeights) -> TaskWeights | NotFiniteError:
    """Copy the weights of one task to memory of their own: a view would keep its whole batch alive."""
    if not all(bool(value.isfinite().all()) for _, value in tensors(weights)):
        return NotFiniteError("the weights of this support set are not finite", support=True)
    return weights.map(lambda value: value.detach().cpu().clone())


def _tensors(predictive: Predictive) -> dict[str, Tensor]:
    return {name: value for name, value in vars(predictive).items() if isinstance(value, Tensor)}


def _far(features: Tensor) -> bool:
    return features.numel() > 0 and float(features.abs().max()) >= _FAR


def _is_lost(predictive: Predictive, features: Shaped[Tensor, "query *feature"]) -> bool:
    """Return True if sums overflowed in the answer to a far query: it tells no classes apart, or rules some out."""
    if not isinstance(predictive, Categorical) or predictive.log_probs.shape[-1] < 2:
        return False
    far = (features.flatten(1).abs().amax(1) >= _FAR).to(predictive.log_probs.device)
    log_probs = predictive.log_probs[0, far]
    low, high = log_probs.amin(-1), log_probs.amax(-1)
    return bool(((low == high) | low.isinf()).any())


def _on_cpu(predictive: Predictive) -> Predictive:
    return replace(predictive, **{name: value.cpu() for name, value in _tensors(predictive).items()})  # type: ignore[type-var]


def _has_nan(predictive: Predictive) -> bool:
    return any(bool(value.isnan().any()) for value in _tensors(predictive).values())
