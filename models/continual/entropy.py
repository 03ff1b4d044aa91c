"""HNET+ENT (von Oswald et al. 2019): a query belongs to the task whose network is surest of its answer.

The entropy is kept as a logarithm. With p log p of a saturated softmax it would be NaN or 0, and the first of the
equals would win (the reference's trap); log H tells logit gaps of 1,000 from gaps of 2,000.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_SMALL = 1e-3


def log_entropy(
    logits: Float[Tensor, "*batch way"], mask: Bool[Tensor, "*#batch way"]
) -> Float[Tensor, "*batch"]:
    """log H in nats of softmax over the classes of the mask; finite for any finite logits of two classes or more."""
    log_probs = logits.masked_fill(~mask, -torch.inf).log_softmax(-1)
    top = log_probs.argmax(-1, keepdim=True)
    others = log_probs.scatter(-1, top, -torch.inf)
    # Of the surest class −log p = −log(1 − Σ others), which is 0 in floating point long before the others are.
    log_rest = others.logsumexp(-1, keepdim=True)
    rest = log_rest.exp()
    log_surprise = torch.where(
        rest < _SMALL, log_rest + rest / 2, (-torch.log1p(-rest.clamp_max(1 - 1e-6))).clamp_min(1e-30).log()
    )
    log_terms = (others + (-others.clamp_min(-3e38)).log()).masked_fill(others == -torch.inf, -torch.inf)
    of_top = torch.log1p(-rest.clamp_max(1 - 1e-6)) + log_surprise
    return torch.cat([log_terms, of_top], -1).logsumexp(-1)


def posterior(
    log_entropies: Float[Tensor, "*batch tasks"], ways: Float[Tensor, "*#batch tasks"]
) -> Float[Tensor, "*batch tasks"]:
    """log P(task) with P(task) ∝ 1 / H, each H as a share of the most it can be, log way."""
    return (ways.log().log() - log_entropies).log_softmax(-1)
