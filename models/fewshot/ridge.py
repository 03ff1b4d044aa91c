"""R2-D2 (Bertinetto et al. 2019, 1805.08136): ridge regression on features, in closed form, learned through.

With X the features of a support set, a 1 appended to each for the intercept, and Y its one-hot classes,

    W = argmin ‖XW − Y‖² + λ‖W‖² = (XᵀX + λI)⁻¹XᵀY = Xᵀ(XXᵀ + λI)⁻¹Y,    logits = α [f(q), 1] W.

The second form (Woodbury) solves for examples instead of features, and is used if those are fewer. λ and the
scale α are learned with the encoder. The paper's further constant β moves all logits alike, which has no effect on a
softmax, so it is left out. Task weights: a row and an intercept per class, α included. Any way, any shot.
Deterministic: there is no epistemic part.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.encoder_protocol import Encoder
from models.fewshot.common.classification import Classifier, answer_losses, class_members
from models.fewshot.common.linear_classifier import answer, linear_logits, linear_weights
from models.noise import Noise
from models.predictive import Categorical
from models.protocol import Episodes, Losses, Support, TaskWeights, Traits, refuse_prior


class RidgeConfig(BaseModel):
    """Initial values of two learned numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    penalty: float = Field(default=1.0, gt=0)
    """λ."""
    scale: float = Field(default=10.0, gt=0)
    """α."""


class Ridge(Classifier):
    Config = RidgeConfig
    config: RidgeConfig
    traits = Traits(representation="embedding")

    def __init__(self, encoder: Encoder, config: RidgeConfig) -> None:
        super().__init__(encoder, config)
        self.log_penalty = nn.Parameter(torch.tensor(math.log(config.penalty)))
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        refuse_prior(prior)
        x = F.pad(support.features, (0, 1), value=1.0).masked_fill(~support.mask[..., None], 0)
        solution = ridge_solution(x, class_members(support), self.log_penalty.exp())
        rows = self.log_scale.exp() * solution.transpose(1, 2)
        return linear_weights(support, rows[..., :-1], rows[..., -1])

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Categorical:
        return answer(self.calibration, weights, linear_logits(weights, features))

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        return answer_losses(self, episodes)


def ridge_solution(
    x: Float[Tensor, "tasks support d"], y: Float[Tensor, "tasks support way"], penalty: Float[Tensor, ""]
) -> Float[Tensor, "tasks d way"]:
    """Return argmin ‖xW − y‖² + penalty·‖W‖² by the smaller of its two systems. Rows of padding are 0 in `x`.

    Solved in double precision: products square the condition number.
    """
    wide, targets, penalty = x.double(), y.double(), penalty.double()
    turned = wide.transpose(1, 2)
    dual = x.shape[1] < x.shape[2]
    gram = wide @ turned if dual else turned @ wide
    # Vectors may have any scale: the rounding error of the gram must stay below the diagonal.
    least = 1e-12 * gram.diagonal(dim1=1, dim2=2).amax(1).detach()
    diagonal = (penalty + least)[:, None, None] * torch.eye(gram.shape[1], dtype=gram.dtype, device=x.device)
    factor = torch.linalg.cholesky(gram + diagonal)
    solution = (
        turned @ torch.cholesky_solve(targets, factor)
        if dual
        else torch.cholesky_solve(turned @ targets, factor)
    )
    return solution.to(x.dtype)
