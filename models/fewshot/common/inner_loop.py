"""The inner loop of MAML (Finn, Abbeel, Levine 2017, 1703.03400): gradient steps that an outer loss differentiates.

    θ_{s+1} = θ_s − α_s clip(∇L(θ_s)),    outer loss Σ_s w_s L_outer(θ_s),  w the last step alone by default.

The caller gives weights and loss: a loss summed over tasks gives each task its own gradient, so that one call descends
for a batch of tasks. Options of MAML++ (Antoniou et al. 2019, 1810.09502):

* an inner rate α per tensor and step, learned;
* the outer loss after every step, its weight moving to the last one early in training;
* derivative-order annealing: first-order gradients for the first share of training, then second-order ones.

Inner gradients are clipped, number by number, as the authors do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

FastWeights = dict[str, Tensor]
"""Tensors by name: the weights of a task, or statistics."""
_LEAST_IMPORTANCE = 0.03
"""Least weight of the loss after an early step, as a share of 1/steps, until the multi-step loss ends."""


class InnerLoopConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=5, ge=1, le=50)
    """Inner steps in training."""
    answer_steps: int | None = Field(default=None, ge=1, le=100)
    """Inner steps in serving; None is as in training."""
    inner_lr: float = Field(default=0.4, gt=0)
    order: Literal["first", "second"] = "second"
    first_order_until: float = Field(default=0.0, ge=0, le=1)
    """Share of training, from its start, with first-order gradients whatever `order` is."""
    learned_rates: bool = False
    """Learn a rate for each tensor and step, from `inner_lr` on; further steps take the last."""
    multi_step: bool = False
    multi_step_until: float = Field(default=0.15, gt=0, le=1)
    """Share of training with the loss after every step; then that of the last step alone counts."""
    clip: float = Field(default=10.0, gt=0)
    """Bound on each number of an inner gradient."""

    def first_order(self, progress: float) -> bool:
        """Return True if the outer gradient takes inner ones as constants at this share of training."""
        return self.order == "first" or progress < self.first_order_until

    def importance(self, progress: float) -> list[float]:
        """Return the weight of the loss after each step; the sum is 1."""
        if not self.multi_step or progress >= self.multi_step_until:
            return [*[0.0] * (self.steps - 1), 1.0]
        early = max(1 - progress / self.multi_step_until, _LEAST_IMPORTANCE) / self.steps
        return [*[early] * (self.steps - 1), 1 - early * (self.steps - 1)]


def descend(
    start: FastWeights,
    gradient_of: Callable[[FastWeights], FastWeights],
    rate: Callable[[int, str], Tensor | float],
    steps: int,
    clip: float,
    *,
    first_order: bool,
) -> Iterator[FastWeights]:
    """Yield the weights after each step.

    `rate(step, name)` is the factor of a gradient, `clip` bounds each of its numbers before. With `first_order`
    gradients are constants: the outer gradient does not go through them.
    """
    fast = start
    for step in range(steps):
        gradients = gradient_of(fast)
        if first_order:
            gradients = {name: value.detach() for name, value in gradients.items()}
        fast = {
            name: value - rate(step, name) * gradients[name].clamp(-clip, clip)
            for name, value in fast.items()
        }
        yield fast


def plain_gradient(loss: Callable[[FastWeights], Float[Tensor, ""]]) -> Callable[[FastWeights], FastWeights]:
    """Return ∇loss as `torch.func.grad` does, by plain autograd, which is faster but does not work under vmap.

    The first call of the functional one imports torch's compiler, which costs a server a second of its start.
    """

    def gradient_of(fast: FastWeights) -> FastWeights:
        through = torch.is_grad_enabled()
        with torch.enable_grad():
            free = {
                name: value if through and value.requires_grad else value.detach().requires_grad_()
                for name, value in fast.items()
            }
            found = torch.autograd.grad(loss(free), list(free.values()), create_graph=through)
        return dict(zip(free, found, strict=True))

    return gradient_of


def outer_loss(
    steps: Iterator[FastWeights],
    importance: list[float],
    loss: Callable[[FastWeights], Float[Tensor, "tasks"]],
) -> tuple[Float[Tensor, "tasks"], Float[Tensor, "tasks"]]:
    """Return the weighed outer losses of a descent, and that of its last step. Steps without weight are skipped."""
    losses = [
        (weight, loss(fast))
        for index, (weight, fast) in enumerate(zip(importance, steps, strict=True))
        if weight or index == len(importance) - 1
    ]
    return torch.stack([weight * value for weight, value in losses]).sum(0), losses[-1][1]
