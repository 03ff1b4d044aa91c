"""Numbers of a support set by which the answers to queries are judged, all of left-out examples."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from models.fewshot.kernels.experts import Labels

_LEAST_SPREAD = 0.02


def _moments(values: Tensor, mask: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return mean and spread over the last axis; 0 and 1 without values."""
    count = mask.sum(-1).clamp_min(1)
    mean = (values * mask).sum(-1) / count
    spread = ((values - mean[..., None]).square() * mask).sum(-1).div(count).sqrt().clamp_min(least)
    return mean, torch.where(mask.sum(-1) > 0, spread, 1.0)


def nearest_points(
    kernels: Float[Tensor, "tasks kernels point point"], labels: Labels
) -> Float[Tensor, "tasks kernels 4"]:
    """Nearest other point of the own class, and nearest of another: mean and spread over the support set."""
    same = (labels.hot @ labels.hot.mT).bool()[:, None]
    itself = torch.eye(same.shape[-1], dtype=torch.bool, device=same.device)
    pairs = (labels.mask[:, :, None] & labels.mask[:, None])[:, None]
    own = kernels.masked_fill(~(same & ~itself & pairs), -torch.inf).amax(-1)
    other = kernels.masked_fill(~(~same & pairs), -torch.inf).amax(-1)
    company = (labels.company > 0) & labels.mask
    found: list[Tensor] = []
    for nearest, mask in ((own, company), (other, labels.mask)):
        found += _moments(nearest.masked_fill(~mask[:, None], 0), mask[:, None].to(kernels), _LEAST_SPREAD)
    return torch.stack(found, dim=-1)


def logit_statistics(outside: Float[Tensor, "tasks point way"], labels: Labels) -> Float[Tensor, "tasks 5"]:
    """Largest leave-one-out logit of examples with company, and of wrong classes: mean, spread; whether any has."""
    company = (labels.company > 0) & labels.mask
    padding = ~labels.classes[:, None]
    largest = outside.masked_fill(padding, -torch.inf).amax(-1)
    wrong = outside.masked_fill(padding | labels.hot.bool(), -torch.inf).amax(-1)
    known = _moments(largest.masked_fill(~company, 0), company.to(outside), 0.1)
    other = _moments(wrong.masked_fill(~labels.mask, 0), labels.mask.to(outside), 0.1)
    return torch.stack((*known, *other, (company.sum(1) > 0).to(outside)), dim=1)


def calibration_terms(outside: Float[Tensor, "tasks point way"], labels: Labels) -> Float[Tensor, "tasks 2"]:
    """Return leave-one-out error and log of the loss in units of chance, plus 1; 0 where nothing can be left out."""
    company = ((labels.company > 0) & labels.mask).to(outside)
    count = company.sum(1).clamp_min(1)
    log_probs = outside.masked_fill(~labels.classes[:, None], -torch.inf).log_softmax(-1)
    own = torch.where(labels.hot.bool(), log_probs, 0.0).sum(-1)
    loss = -(own * company).sum(1) / count / labels.n_way.log()
    best = log_probs.amax(-1)
    wrong = ((own < best).to(outside) * company).sum(1) / count
    return torch.stack((wrong, (loss.clamp(0.01, 2.0).log() + 1) * company.amax(1)), dim=1)
