"""Multinomial logistic regression on features, solved to its optimum: the baseline a practitioner tries first.

With x the features of a support set, centred and divided by their root mean square, and a 1 appended,

    V = argmin Σ_i −log softmax(V x_i)[y_i] + ½λ‖V‖²,    logits = α V [x(q), 1].

The problem is strictly convex, so its optimum is a function of the support *set*. It is found by Newton's method in
double precision, all tasks at once: steps by conjugate gradients, preconditioned with Böhning's bound on the Hessian
(1992), ½xᵀx + λI, halved until the objective falls. `loss` learns λ, α and the encoder through the optimum: by the
implicit function theorem dV = −H⁻¹ dg, one more linear system and no unrolled steps. With the encoder `identity`
the features are frozen, and two numbers are learned.

Task weights: a row and an intercept per class, and the centre. Any way, any shot. Deterministic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoder_protocol import Encoder
from models.fewshot.common.classification import Classifier, answer_losses, class_members
from models.fewshot.common.linear_classifier import answer, linear_logits, linear_weights
from models.fewshot.common.magnitudes import magnitude
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import (
    Episodes,
    LearnerError,
    Losses,
    Support,
    TaskWeights,
    Traits,
    refuse_prior,
)

_MOST_STEPS, _MOST_HALVINGS, _MOST_DIRECTIONS = 100, 30, 200
_CONVERGED = 1e-9
"""Norm of the gradient over that of the gradient at 0, at which a task is solved."""
_EXACT = 1e-10
"""Residual of a linear system over its right-hand side."""


class LogisticConfig(BaseModel):
    """Initial values of two learned numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    penalty: float = Field(default=1.0, gt=0)
    """λ, in units of one example."""
    scale: float = Field(default=1.0, gt=0)
    """α."""


class Logistic(Classifier):
    Config = LogisticConfig
    config: LogisticConfig
    traits = Traits(representation="embedding")

    def __init__(self, encoder: Encoder, config: LogisticConfig) -> None:
        super().__init__(encoder, config)
        self.log_penalty = nn.Parameter(torch.tensor(math.log(config.penalty)))
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """Solve for the classifier. Raises `LearnerError` for infinite features, or if no optimum is found."""
        refuse_prior(prior)
        real = support.mask[..., None]
        count = support.mask.sum(1).to(support.features)[:, None, None]
        x = support.features.masked_fill(~real, 0)
        centre = x.sum(1, keepdim=True) / count
        x = (x - centre) * real
        size = magnitude(x.detach().abs().amax((1, 2), keepdim=True))
        unit = ((x / size).square().sum((1, 2), keepdim=True) / count).clamp_min(1e-24).sqrt() * size
        inputs = F.pad(x / unit, (0, 1), value=1.0) * real
        problem = LogisticProblem(
            inputs.double(),
            class_members(support).double(),
            support.class_mask,
            self.log_penalty.double().exp(),
        )
        rows = self.log_scale.exp() * differentiable(problem, optimum(problem)).to(x.dtype)
        return linear_weights(support, rows[..., :-1] / unit, rows[..., -1], {"centre": centre[:, 0]})

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        return answer(self.calibration, weights, _logits(weights, features))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        return answer_losses(self, episodes)


def _logits(
    weights: TaskWeights, features: Float[Tensor, "tasks query d"]
) -> Float[Tensor, "tasks query way"]:
    # About the centre: far from 0, products would lose the digits that distinguish classes.
    return linear_logits(weights, features - weights.task["centre"][:, None])


@dataclass(frozen=True)
class LogisticProblem:
    """Penalised regressions, one per task. Examples of padding are 0 in `x` and `y`."""

    x: Float[Tensor, "tasks support d"]
    y: Float[Tensor, "tasks support way"]
    present: Bool[Tensor, "tasks way"]
    penalty: Float[Tensor, ""]

    def log_probs(self, v: Float[Tensor, "tasks way d"]) -> Float[Tensor, "tasks support way"]:
        logits = self.x @ v.transpose(1, 2)
        return logits.masked_fill(~self.present[:, None], -torch.inf).log_softmax(-1)

    def value(self, v: Float[Tensor, "tasks way d"]) -> Float[Tensor, "tasks"]:
        fit = (self.log_probs(v).masked_fill(~self.present[:, None], 0) * self.y).sum((1, 2))
        return 0.5 * self.penalty * v.square().sum((1, 2)) - fit

    def gradient(self, v: Float[Tensor, "tasks way d"]) -> Float[Tensor, "tasks way d"]:
        real = self.y.sum(-1, keepdim=True)
        excess = self.log_probs(v).exp() * real - self.y
        return excess.transpose(1, 2) @ self.x + self.penalty * v

    def solve(
        self, v: Float[Tensor, "tasks way d"], right: Float[Tensor, "tasks way d"]
    ) -> Float[Tensor, "tasks way d"]:
        """Return H(v)⁻¹ right by preconditioned conjugate gradients; each task stops at its own small residual."""
        probabilities = self.log_probs(v).exp() * self.y.sum(-1, keepdim=True)

        def hessian(u: Tensor) -> Tensor:
            moved = probabilities * (self.x @ u.transpose(1, 2))
            moved = moved - probabilities * moved.sum(-1, keepdim=True)
            return moved.transpose(1, 2) @ self.x + self.penalty * u

        eye = torch.eye(self.x.shape[2], dtype=self.x.dtype, device=self.x.device)
        bound = torch.linalg.cholesky(0.5 * self.x.transpose(1, 2) @ self.x + self.penalty * eye)
        solution, residual = torch.zeros_like(right), right
        found = torch.cholesky_solve(residual.transpose(1, 2), bound).transpose(1, 2)
        direction, fit = found, (residual * found).sum((1, 2), keepdim=True)
        small = _EXACT * right.square().sum((1, 2), keepdim=True).sqrt()
        for _ in range(_MOST_DIRECTIONS):
            going = residual.square().sum((1, 2), keepdim=True).sqrt() > small
            if not bool(going.any()):
                break
            image = hessian(direction)
            length = torch.where(
                going, fit / (direction * image).sum((1, 2), keepdim=True).clamp_min(1e-300), 0
            )
            solution, residual = solution + length * direction, residual - length * image
            found = torch.cholesky_solve(residual.transpose(1, 2), bound).transpose(1, 2)
            next_fit = (residual * found).sum((1, 2), keepdim=True)
            direction = torch.where(going, found + next_fit / fit.clamp_min(1e-300) * direction, direction)
            fit = torch.where(going, next_fit, fit)
        return solution


@torch.no_grad()
def optimum(problem: LogisticProblem) -> Float[Tensor, "tasks way d"]:
    """Find the optimum by Newton's method from 0; steps are halved until the objective falls. Raises `LearnerError`."""
    v = problem.x.new_zeros((*problem.present.shape, problem.x.shape[2]))
    start = problem.gradient(v).square().sum((1, 2)).sqrt().clamp_min(1e-12)
    if not bool(start.isfinite().all()):
        raise LearnerError("logistic regression needs features that are finite")
    for _ in range(_MOST_STEPS):
        gradient = problem.gradient(v)
        going = gradient.square().sum((1, 2)).sqrt() > _CONVERGED * start
        if not bool(going.any()):
            return v
        step = problem.solve(v, gradient)
        before, slope = problem.value(v), (gradient * step).sum((1, 2))
        length = going.to(v)
        for _ in range(_MOST_HALVINGS):
            after = problem.value(v - length[:, None, None] * step)
            # Near the optimum the fall is below rounding.
            short = after > before - 1e-4 * length * slope + 1e-13 * before.abs()
            if not bool(short.any()):
                break
            length = torch.where(short, length / 2, length)
        v = v - length[:, None, None] * step
    raise LearnerError("logistic regression found no optimum for this support set")


class _Inverse(torch.autograd.Function):
    """−H⁻¹ g of a gradient g that is 0 up to rounding: 0 forwards, −H⁻¹ of the incoming gradient backwards."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, problem: LogisticProblem, v: Tensor) -> Tensor:
        ctx.problem, ctx.v = problem, v
        return torch.zeros_like(gradient)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return -ctx.problem.solve(ctx.v, grads[0]), None, None


def differentiable(problem: LogisticProblem, v: Float[Tensor, "tasks way d"]) -> Float[Tensor, "tasks way d"]:
    """Return the optimum `v` as a differentiable function of the features and the penalty."""
    if not torch.is_grad_enabled():
        return v
    found: Tensor = _Inverse.apply(problem.gradient(v), problem, v)  # type: ignore[no-untyped-call]
    return v + found
