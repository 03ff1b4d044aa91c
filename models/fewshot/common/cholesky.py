"""Cholesky factors of matrices that rounding may have made indefinite."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from models.protocol import LearnerError

_JITTERS = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
"""Jitter over the mean of the diagonal."""


def safe_cholesky(matrices: Float[Tensor, "tasks d d"]) -> Float[Tensor, "tasks d d"]:
    """Return lower factors; matrices that are not positive definite get jitter, more and more until they are.

    A matrix in a batch is treated as if alone. Raises `LearnerError` if no jitter helps.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrices)
    mean = matrices.diagonal(dim1=1, dim2=2).mean(1)
    for jitter in _JITTERS:
        if not bool(failed.any()):
            return factor
        added = torch.where(failed > 0, jitter * mean, 0.0)
        shifted = matrices + added[:, None].expand(-1, matrices.shape[-1]).diag_embed()
        again, still = torch.linalg.cholesky_ex(shifted)
        factor = torch.where((failed > 0)[:, None, None], again, factor)
        failed = torch.where(failed > 0, still, 0)
    if bool(failed.any()):
        raise LearnerError("the posterior of this support set has no Cholesky factor")
    return factor
