"""Two-step training of von Oswald et al. 2019: the gradient of the task's loss, then the output regulariser R at the
point to which Adam would step.

It works for any loss of one generated network, such as a classifier's or a VAE's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.lr_scheduler import LambdaLR

from models.continual.chunked_hypernetwork import ChunkedHypernetwork, Parameters
from models.continual.output_regulariser import Regulariser
from models.protocol import LearnerError
from models.stream_protocol import ProgressCallback

Schedule = Literal["constant", "ramp"]
"""Learning rate schedule. `ramp` rises from zero over the first tenth of the steps, then falls linearly to zero: Adam's
first steps are as long as its rate whatever the gradient, which may ruin a network generated for a new embedding."""
_RISE = 0.1
REPORT_STEPS = 50
"""Steps between two reports."""
Loss = Callable[[int, Float[Tensor, "size"]], Float[Tensor, ""]]
"""Maps the step and the flat weights of the new task's network to its loss."""


def scheduled(optimiser: torch.optim.Optimizer, steps: int, schedule: Schedule) -> LambdaLR:
    """Return the scheduler, to be stepped after the optimiser."""
    return LambdaLR(optimiser, lambda step: rate_factor(step, steps, schedule))


def rate_factor(step: int, steps: int, schedule: Schedule) -> float:
    """Return the factor of the learning rate in a step, counted from 0."""
    if schedule == "constant":
        return 1.0
    return min((step + 1) / (_RISE * steps + 1), (steps - step) / ((1 - _RISE) * steps))


@torch.no_grad()
def look_ahead(optimiser: torch.optim.Adam) -> dict[Tensor, Tensor]:
    """Return Θ + Δθ, to which Adam's next step with the present gradients would lead, without taking it.

    The result is that of `optimiser.step()` to the bit: the same implementation runs on copies of parameters and state.
    """
    ahead: dict[Tensor, Tensor] = {}
    for group in optimiser.param_groups:
        params: list[Tensor] = group["params"]
        copies = [param.detach().clone() for param in params]
        states = [optimiser.state.get(param) or _initial_state(param, group["fused"]) for param in params]
        adam(
            copies,
            [param.grad for param in params if param.grad is not None],
            [state["exp_avg"].clone() for state in states],
            [state["exp_avg_sq"].clone() for state in states],
            [],
            [state["step"].clone() for state in states],
            foreach=False,
            fused=bool(group["fused"]),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        ahead.update(zip(params, copies, strict=True))
    return ahead


def _initial_state(param: Tensor, fused: bool | None) -> dict[str, Tensor]:
    """Return Adam's state before its first step. Only the fused implementation counts steps on the device."""
    step = torch.zeros((), device=param.device if fused else "cpu")
    return {"exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param), "step": step}


def learn(
    net: ChunkedHypernetwork,
    params: Parameters,
    embedding: Float[Tensor, "e"],
    size: int,
    loss: Loss,
    *,
    steps: int,
    lr: float,
    schedule: Schedule = "constant",
    beta: float = 0.0,
    regulariser: Regulariser | None = None,
    learned_embedding: bool = True,
    report: ProgressCallback | None = None,
) -> tuple[dict[str, Tensor], Float[Tensor, "e"]]:
    """Train copies of `params` and, if `learned_embedding`, of the embedding with a fresh Adam. Return both.

    Raise `LearnerError` if the loss is no longer finite.
    """
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    new_embedding = embedding.clone().requires_grad_(learned_embedding)
    optimiser = torch.optim.Adam(
        [*leaves.values(), *([new_embedding] if learned_embedding else [])], lr=lr, fused=True
    )
    rate = scheduled(optimiser, steps, schedule)
    for step in range(steps):
        optimiser.zero_grad()
        value = loss(step, net.generate(leaves, new_embedding[None], size)[0])
        value.backward()
        if regulariser is not None and beta > 0:
            ahead = look_ahead(optimiser)
            _, grads = regulariser.gradient({name: ahead[leaf] for name, leaf in leaves.items()})
            for name, grad in grads.items():
                if (task_grad := leaves[name].grad) is not None:
                    task_grad.add_(grad, alpha=beta)
        optimiser.step()
        rate.step()
        if step % REPORT_STEPS == 0 or step == steps - 1:
            if not torch.isfinite(value):
                raise LearnerError(f"training diverged at step {step}; try a smaller learning rate")
            if report is not None:
                report({"step": step + 1, "steps": steps, "loss": value.item()})
    return {name: value.detach() for name, value in leaves.items()}, new_embedding.detach()
