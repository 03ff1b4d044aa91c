"""Conditional neural process (Garnelo et al. 2018, 1807.01613) for functions: curves, and images as fields.

    r = 1/n Σ h(x_i ⊕ y_i);    (μ, s) = g(r ⊕ x);    σ = floor + (1 − floor) softplus(s)

h and g are perceptrons. The loss is the mean of −log N(y | μ, σ²) over all targets, the context included.
For image completion x are the coordinates of a pixel in [0, 1]² and y is its grey or its colour.

`sigma_floor` (0.1 in the paper) is the least σ of an answer, in the units of the targets: it bounds the likelihood if
functions have no noise, and thus the sharpness of answers. Lower it for such data.

Task weights: the sum of h over the context and its size, so that one more example costs one h.
Deterministic: σ² is reported as aleatoric, even the part that is due to few examples; there is no epistemic part.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from models.encoder_protocol import Encoder
from models.fewshot.common.regression import (
    NO_WAYS,
    Regressor,
    ValueConfig,
    functions_of,
    mean_over,
    perceptron,
    squared_error,
    task_weights,
    without_padding,
)
from models.noise import Noise
from models.predictive import Gaussian
from models.protocol import Episodes, Losses, Support, TaskWeights, Traits


class CnpRegressionConfig(ValueConfig):
    width: int = Field(default=128, ge=1, le=2048)
    encoder_layers: int = Field(default=4, ge=1, le=16)
    """Linear layers of h."""
    decoder_layers: int = Field(default=3, ge=1, le=16)
    """Linear layers of g."""
    sigma_floor: float = Field(default=0.1, gt=0, lt=1)


class CnpRegression(Regressor):
    Config = CnpRegressionConfig
    trial = replace(Regressor.trial, hparams={"width": 32})
    config: CnpRegressionConfig
    traits = Traits(ways=NO_WAYS, incremental=True, kind="regression", representation="feed-forward")

    def __init__(self, encoder: Encoder, config: CnpRegressionConfig) -> None:
        super().__init__(encoder, config)
        width = config.width
        self.context = perceptron([config.dim + config.target, *[width] * config.encoder_layers])
        inside = [width] * (config.decoder_layers - 1)
        self.decoder = perceptron([width + config.dim, *inside, 2 * config.target])

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """Sum h over the context. Raises `LearnerError` for values that are too large."""
        support = without_padding(support)
        assert support.targets is not None
        each = self.context(torch.cat((support.features, support.targets), dim=-1))
        total, count = (each * support.mask[..., None]).sum(1), support.mask.sum(1).to(each)
        if prior is not None:
            total, count = total + prior.task["sum"], count + prior.task["count"]
        return task_weights(support, sum=total, count=count)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Gaussian:
        """Answer the queries; an empty context has r = 0."""
        mean_context = weights.task["sum"] / weights.task["count"].clamp_min(1)[:, None]
        repeated = mean_context[:, None].expand(-1, features.shape[1], -1)
        mean, raw = self.decoder(torch.cat((repeated, features), dim=-1)).chunk(2, dim=-1)
        floor = self.config.sigma_floor
        return Gaussian(mean, (floor + (1 - floor) * F.softplus(raw)).square())

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the −log likelihood of a point in nats, mean over the context and the queries."""
        data = functions_of(self.embed, episodes)
        support = data.support
        assert support.targets is not None
        answer = self.predict(self.adapt(support), torch.cat((support.features, data.query), dim=1))
        target, real = torch.cat((support.targets, data.target), 1), torch.cat((support.mask, data.real), 1)
        nll = mean_over(-answer.log_prob(target), real)
        error = squared_error(answer.mean, target, real)
        return Losses(nll, {"nll": nll.detach(), "mse": error.detach()})
