"""Fine-tuning of a hypernetwork on one support set: Adam down the support loss, then weights are written anew.

The "+ finetune" of HyperShot (2203.11378 §3): a copy of the parameters moves, the learner itself never does. An
exception ends the adaptation, where the authors' code swallows it and answers as if nothing had been asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import grad

from models.fewshot.common.classification import cross_entropy
from models.predictive import Categorical, Predictive
from models.protocol import LearnerError, Support, TaskWeights

FastWeights = dict[str, Tensor]
"""Parameters by name."""
_DECAY, _DECAY_SQUARE, _EPS = 0.9, 0.999, 1e-8


def tuned(start: FastWeights, loss: Callable[[FastWeights], Tensor], steps: int, lr: float) -> FastWeights:
    """`start` after some steps of Adam (Kingma, Ba 2015, 1412.6980) down `loss`, a number.

    Pure: works under `no_grad` and `inference_mode`. Raises `LearnerError` where the loss ends in no finite weights.
    """
    gradient_of = grad(loss)
    fast = {name: value.detach().clone() for name, value in start.items()}
    mean = {name: torch.zeros_like(value) for name, value in fast.items()}
    square = {name: torch.zeros_like(value) for name, value in fast.items()}
    for step in range(1, steps + 1):
        gradients = gradient_of(fast)
        for name, found in gradients.items():
            g = found.detach()
            mean[name] = _DECAY * mean[name] + (1 - _DECAY) * g
            square[name] = _DECAY_SQUARE * square[name] + (1 - _DECAY_SQUARE) * g.square()
            spread = (square[name] / (1 - _DECAY_SQUARE**step)).sqrt() + _EPS
            fast[name] = fast[name] - lr / (1 - _DECAY**step) * mean[name] / spread
    if not all(bool(value.isfinite().all()) for value in fast.values()):
        raise LearnerError("fine-tuning diverges on this support set")
    return fast


def support_loss(answer: Predictive, support: Support) -> Tensor:
    """Mean cross-entropy of what a learner answers to the support set of one task, in nats."""
    assert isinstance(answer, Categorical)
    assert support.targets is not None
    return cross_entropy(answer.log_probs, support.targets, support.mask).sum()


def each(support: Support) -> Iterator[Support]:
    """The tasks of a batch one by one, with their real examples and classes alone."""
    assert support.targets is not None
    for task, real in enumerate(support.mask):
        one, way = slice(task, task + 1), int(support.n_way[task])
        yield Support(
            support.features[one, real],
            support.targets[one, real],
            support.mask[one, real],
            support.n_way[one],
            support.class_key[one, :way],
            support.seed[one],
        )


def together(found: Sequence[TaskWeights]) -> TaskWeights:
    """Weights of tasks of one way as those of a batch."""

    def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return TaskWeights(
        task=joined([one.task for one in found]),
        rows=joined([one.rows for one in found]),
        n_way=torch.cat([one.n_way for one in found]),
        class_key=torch.cat([one.class_key for one in found]),
        seed=torch.cat([one.seed for one in found]),
    )
