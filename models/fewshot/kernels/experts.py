"""Experts: classifiers in closed or nearly closed form on a kernel, each with its leave-one-out scores.

A kernel compares two examples in one view (`geometry`); an expert turns the kernel matrix K of a support set into
coefficients α, so that the scores of a query are k(q)ᵀ α + bias, centred over the classes. With Y the one-hot classes
less their mean, and weights w that make all classes count alike,

- prototype: squared distance to the class mean in the kernel's space (Snell et al. 2017); leaving out an example
  changes its own class mean only;
- ridge: α = (K + λ/w)⁻¹ Y; the leave-one-out score is Y_i − α_i / [(K + λ/w)⁻¹]_ii, exactly;
- logistic: multinomial logistic regression with penalty λ/2 tr(αᵀKα), by accelerated steps with Böhning's bound of the
  Hessian (1992), which needs one inverse; leave-one-out scores by one Newton step (Rad, Maleki 2020, 1801.10243).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.fewshot.kernels.geometry import VIEWS, Geometry

_STEPS = 20
_JITTER = 1e-5
_FEW = 400
"""Examples up to which the steps of logistic regression are made in the precision of the kernels."""


@dataclass(frozen=True)
class KernelForm:
    """A function of inner product or distance in one view."""

    view: str
    form: Literal["linear", "sphere", "gauss", "laplace"]


@dataclass(frozen=True)
class Expert:
    kernel: KernelForm
    kind: Literal["prototype", "ridge", "logistic"]
    strength: float = 0.0
    """λ."""


KERNELS = (
    KernelForm("unit", "linear"),
    KernelForm("unit", "sphere"),
    KernelForm("centred", "sphere"),
    KernelForm("scaled", "linear"),
    KernelForm("scaled", "gauss"),
    KernelForm("scaled", "laplace"),
    KernelForm("log", "linear"),
    KernelForm("log", "gauss"),
    KernelForm("raw", "gauss"),
)
EXPERTS = (
    Expert(KERNELS[0], "prototype"),
    Expert(KERNELS[1], "ridge", 0.3),
    Expert(KERNELS[1], "ridge", 3.0),
    Expert(KERNELS[2], "ridge", 0.3),
    Expert(KERNELS[2], "logistic", 0.02),
    Expert(KERNELS[3], "ridge", 0.01),
    Expert(KERNELS[3], "ridge", 0.3),
    Expert(KERNELS[4], "logistic", 0.02),
    Expert(KERNELS[5], "ridge", 0.03),
    Expert(KERNELS[6], "ridge", 0.03),
    Expert(KERNELS[6], "logistic", 0.2),
    Expert(KERNELS[7], "ridge", 0.03),
    Expert(KERNELS[7], "prototype"),
    Expert(KERNELS[8], "ridge", 0.03),
)
KERNEL_OF = tuple(KERNELS.index(expert.kernel) for expert in EXPERTS)
_VIEW_OF = tuple(VIEWS.index(kernel.view) for kernel in KERNELS)


@dataclass(frozen=True)
class Labels:
    """Classes of the examples of each task."""

    hot: Float[Tensor, "tasks point way"]
    shots: Float[Tensor, "tasks way"]
    """0 on padding."""
    mask: Bool[Tensor, "tasks point"]
    classes: Bool[Tensor, "tasks way"]

    @property
    def n_way(self) -> Float[Tensor, "tasks"]:
        return self.classes.sum(1).to(self.hot)

    @property
    def centred(self) -> Float[Tensor, "tasks point way"]:
        """One-hot classes less 1/way; 0 on padding."""
        share = self.classes[:, None] * self.mask[..., None] / self.n_way[:, None, None]
        return self.hot - share

    @property
    def company(self) -> Float[Tensor, "tasks point"]:
        """Number of other examples of the same class."""
        own = (self.hot @ self.shots[..., None])[..., 0]
        return (own - 1).clamp_min(0)

    @property
    def weight(self) -> Float[Tensor, "tasks point"]:
        """Weights that add up to the same for every class; 1 on padding."""
        own = (self.hot @ self.shots[..., None])[..., 0]
        count = self.mask.sum(1, keepdim=True).to(own)
        return torch.where(self.mask, count / (self.n_way[:, None] * own.clamp_min(1)), 1.0)

    def centre(self, scores: Float[Tensor, "tasks *any way"]) -> Float[Tensor, "tasks *any way"]:
        """Subtract the mean over the classes; 0 on padding."""
        present = self.classes.view(len(scores), *[1] * (scores.ndim - 2), -1)
        scores = scores.masked_fill(~present, 0)
        return (scores - scores.sum(-1, keepdim=True) / present.sum(-1, keepdim=True)).masked_fill(
            ~present, 0
        )


@dataclass(frozen=True)
class Fit:
    """Fitted experts of each task: coefficients, biases, and scores of the support set itself."""

    coefficients: Float[Tensor, "tasks experts point way"]
    bias: Float[Tensor, "tasks experts way"]
    inside: Float[Tensor, "tasks experts point way"]
    """Scores of the examples by the fit that holds them."""
    outside: Float[Tensor, "tasks experts point way"]
    """Scores of each example by a fit without it."""


def kernel_values(
    found: Geometry, kernels: list[tuple[int, KernelForm]] | None = None
) -> Float[Tensor, "tasks kernels query point"]:
    """Return the kernels of all sources, source by source, or of (source, kernel) pairs."""
    views = len(VIEWS)
    if kernels is None:
        sources = found.inner.shape[1] // views
        kernels = [(source, kernel) for source in range(sources) for kernel in KERNELS]
    distances = found.squared_distances()
    return torch.stack(
        [
            _value(kernel, found.inner[:, place], distances[:, place])
            for source, kernel in kernels
            for place in [source * views + VIEWS.index(kernel.view)]
        ],
        dim=1,
    )


def _value(kernel: KernelForm, inner: Tensor, distance: Tensor) -> Tensor:
    """Points of a scaled view have mean square 1, so that the mean squared distance of two is about 2."""
    if kernel.form == "linear":
        return inner
    if kernel.form == "sphere":
        return (-distance).exp()
    if kernel.form == "gauss":
        return (-0.25 * distance).exp()
    return (-(0.5 * distance + 1e-12).sqrt()).exp()


def fit(
    kernels: Float[Tensor, "tasks kernels point point"], labels: Labels, experts: list[tuple[int, Expert]]
) -> Fit:
    """Fit experts, each given with the index of its kernel. The kernels are 0 on padding."""
    ridges = [index for index, (_, expert) in enumerate(experts) if expert.kind == "ridge"]
    logistics = [index for index, (_, expert) in enumerate(experts) if expert.kind == "logistic"]
    prototypes = [index for index, (_, expert) in enumerate(experts) if expert.kind == "prototype"]
    parts: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
    for indices, fitted in ((ridges, _ridge), (logistics, _logistic), (prototypes, _prototype)):
        if indices:
            chosen = kernels[:, [experts[index][0] for index in indices]]
            strength = kernels.new_tensor([experts[index][1].strength for index in indices])
            outcome = fitted(chosen, labels, strength)
            parts |= {index: tuple(t[:, place] for t in outcome) for place, index in enumerate(indices)}  # type: ignore[misc]
    coefficients, bias, inside, outside = (
        torch.stack([parts[index][piece] for index in range(len(experts))], dim=1) for piece in range(4)
    )
    return Fit(
        labels.centre(coefficients), labels.centre(bias), labels.centre(inside), labels.centre(outside)
    )


def _regularised(kernels: Tensor, labels: Labels, strength: Tensor, factor: float = 1.0) -> Tensor:
    diagonal = strength[:, None] / labels.weight[:, None] + _JITTER
    diagonal = torch.where(labels.mask[:, None], diagonal, 1.0)
    return factor * kernels.double() + torch.diag_embed(diagonal).double()


def _ridge(kernels: Tensor, labels: Labels, strength: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(_regularised(kernels, labels, strength)))
    targets = labels.centred[:, None]
    alpha = (inverse @ targets.double()).to(kernels)
    leverage = inverse.diagonal(dim1=-2, dim2=-1).to(kernels)
    return alpha, _no_bias(alpha), kernels @ alpha, targets - alpha / leverage[..., None]


def _logistic(kernels: Tensor, labels: Labels, strength: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask = labels.mask[:, None, :, None]
    padding = ~labels.classes[:, None, None]
    penalty = (strength[:, None] / labels.weight[:, None])[..., None]
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(_regularised(kernels, labels, strength, 0.5)))
    # The steps are most of the work of many examples, and mend their own rounding.
    steps = kernels.dtype if kernels.shape[-1] <= _FEW else torch.float32
    kernels, inverse, penalty = kernels.to(steps), inverse.to(steps), penalty.to(steps)
    hot = labels.hot[:, None].to(steps)
    alpha = ahead = torch.zeros_like(hot).expand(-1, kernels.shape[1], -1, -1)
    momentum = 1.0
    for _ in range(_STEPS):
        shares = (kernels @ ahead).masked_fill(padding, -torch.inf).softmax(-1)
        moved = ahead - inverse @ ((shares - hot + penalty * ahead) * mask)
        following = 0.5 * (1 + math.sqrt(1 + 4 * momentum**2))
        ahead = moved + (momentum - 1) / following * (moved - alpha)
        alpha, momentum = moved, following
    scores = kernels @ alpha
    shares = scores.masked_fill(padding, -torch.inf).softmax(-1)
    way = labels.n_way[:, None, None]
    curvature = (shares * (1 - shares)).sum(-1) / (way - 1)
    curvature = (curvature * labels.mask[:, None]).sum(-1) / labels.mask.sum(1)[:, None]
    curvature = curvature.clamp_min(1e-4)[..., None]
    # diag((wK + Λ)⁻¹K) needs the diagonal of the inverse alone: (1 − Λ_i [(wK + Λ)⁻¹]_ii) / w.
    own = torch.where(labels.mask[:, None], penalty[..., 0], 1.0).double()
    weighed = curvature[..., None] * kernels.double() + torch.diag_embed(own)
    inverse_diagonal = torch.cholesky_inverse(torch.linalg.cholesky(weighed)).diagonal(dim1=-2, dim2=-1)
    leverage = ((1 - own * inverse_diagonal) / curvature).to(kernels)
    change = leverage / (1 - (leverage * curvature).clamp(max=0.99))
    outside = scores + change[..., None] * (shares - hot) * mask
    found = alpha, _no_bias(alpha), scores, outside
    return tuple(value.to(labels.hot) for value in found)  # type: ignore[return-value]


def _prototype(kernels: Tensor, labels: Labels, strength: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    hot, shots = labels.hot[:, None], labels.shots.clamp_min(1)[:, None]
    sums = kernels @ hot
    within = hot.mT @ sums
    lengths = within.diagonal(dim1=-2, dim2=-1)
    bias = -lengths / shots.square()
    alpha = (2 * hot / shots[:, :, None]).expand(-1, kernels.shape[1], -1, -1)
    inside = kernels @ alpha + bias[:, :, None]
    own, others = (hot * sums).sum(-1), labels.company.clamp_min(1)[:, None]
    itself = kernels.diagonal(dim1=-2, dim2=-1)
    length = (hot @ lengths[..., None])[..., 0]
    without = 2 * (own - itself) / others - (length - 2 * own + itself) / others.square()
    outside = torch.where(hot.bool(), without[..., None], inside)
    return alpha, bias, inside, outside


def _no_bias(alpha: Float[Tensor, "tasks experts point way"]) -> Float[Tensor, "tasks experts way"]:
    return torch.zeros_like(alpha[:, :, 0])
