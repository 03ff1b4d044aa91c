"""One inverse temperature for class scores: that at which examples are most likely."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_CANDIDATES = torch.logspace(0, 2, 41, dtype=torch.float64)


def temperature(scores: Float[Tensor, "n classes"], y: Int[Tensor, "n"]) -> Float[Tensor, ""]:
    """Scores are of examples that they were not fitted to. One pseudo-example is spread over all classes, so that a
    few examples that are all right do not promise certainty."""
    spread = 1 / (len(y) + 1)
    best, lowest = _CANDIDATES[0], torch.inf
    for candidate in _CANDIDATES:
        log_probs = (candidate * scores.double()).log_softmax(-1)
        right = log_probs.gather(1, y[:, None]).mean()
        loss = float(-(1 - spread) * right - spread * log_probs.mean())
        if loss < lowest:
            best, lowest = candidate, loss
    return best.float()
