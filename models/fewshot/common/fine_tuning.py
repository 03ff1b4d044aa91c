"""Fine-tuning of a hypernetwork on one support set: Adam down the support loss, then weights are written anew.

The "+ finetune" of HyperShot (2203.11378 §3): a copy of the parameters moves, the learner itself never does. An
exception ends the adaptation; the authors' code swallows it and answers as if there had been no fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import grad

from models.fewshot.common.classification import cross_entropy
from models.fewshot.common.inner_loop import FastWeights
from models.predictive import Categorical, Predictive
from models.protocol import LearnerError, Support, TaskWeights


def tuned(start: FastWeights, loss: Callable[[FastWeights], Tensor], steps: int, lr: float) -> FastWeights:
    """Return `start` after some steps of Adam down `loss`, a number.

    Pure: works under `no_grad` and `inference_mode`. Raises `LearnerError` if weights end up not finite.
    """
    gradient_of = grad(loss)
    fast = {name: value.detach().clone() for name, value in start.items()}
    optimiser = torch.optim.Adam(list(fast.values()), lr=lr)
    for _ in range(steps):
        for name, gradient in gradient_of(fast).items():
            fast[name].grad = gradient.detach()
        try:
            optimiser.step()
        except RuntimeError as error:
            # torch refuses a step beyond the range of float.
            raise LearnerError(
                "fine-tuning diverges on this support set: its learning rate is too large"
            ) from error
    if not all(bool(value.isfinite().all()) for value in fast.values()):
        raise LearnerError("fine-tuning diverges on this support set")
    # Without the gradients that the optimiser read.
    return {name: value.detach() for name, value in fast.items()}


def support_loss(answer: Predictive, support: Support) -> Tensor:
    """Return the mean cross-entropy of a learner's answers to the support set of one task, in nats."""
    assert isinstance(answer, Categorical)
    assert support.targets is not None
    return cross_entropy(answer.log_probs, support.targets, support.mask).sum()


def single_tasks(support: Support) -> Iterator[Support]:
    """Yield the tasks of a batch one by one, without padding."""
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


def joined_weights(found: Sequence[TaskWeights]) -> TaskWeights:
    """Join weights of tasks of one way to those of a batch."""

    def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    return TaskWeights(
        task=joined([one.task for one in found]),
        rows=joined([one.rows for one in found]),
        n_way=torch.cat([one.n_way for one in found]),
        class_key=torch.cat([one.class_key for one in found]),
        seed=torch.cat([one.seed for one in found]),
    )
