"""Bayesian linear regression on learned features, in closed form: ALPaCA (Harrison et al. 2018, 1807.08912).

    y = Kᵀφ(x) + ε,  ε ~ N(0, Σ),  K ~ MN(K₀, Λ₀⁻¹, Σ)      φ, K₀, Λ₀ and the diagonal Σ are learned
    Λ = Λ₀ + Σ_i φ_i φ_iᵀ,   Λ K̄ = Λ₀ K₀ + Σ_i φ_i y_iᵀ
    y | x ~ N(K̄ᵀφ, Σ (1 + φᵀ Λ⁻¹ φ))

The posterior over the last layer is exact: aleatoric is Σ, epistemic is Σ φᵀΛ⁻¹φ, which falls with every example and is
large far from all of them. The loss is the mean −log likelihood of the queries given the support set. Λ₀ is stored as
its Cholesky factor. φ is bounded (tanh), so that an epistemic variance cannot grow without end: far from all training
inputs it is that of the prior. `noise_floor` is the least Σ: functions without noise would drive it to 0.

Task weights: Σ φφᵀ and Σ φyᵀ, in float64, so that adding examples is exact and their order does not matter; the
factorisation happens in `predict`. Should rounding make Λ indefinite, jitter grows until it is not: never NaN.
Epistemic without draws: the learner is not stochastic, its posterior is exact (`Traits.exact_posterior`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from models.encoder_protocol import Encoder
from models.fewshot.common.cholesky import safe_cholesky
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


class BayesLinearConfig(ValueConfig):
    width: int = Field(default=64, ge=1, le=2048)
    layers: int = Field(default=3, ge=1, le=16)
    """Linear layers of φ."""
    features: int = Field(default=32, ge=1, le=512)
    noise_floor: float = Field(default=1e-4, gt=0)
    """Least variance of the noise, in squared units of the targets."""


class BayesLinear(Regressor):
    Config = BayesLinearConfig
    trial = replace(Regressor.trial, hparams={"width": 32, "features": 16}, steps=150, lr=1e-2, floor=0.5)
    config: BayesLinearConfig
    traits = Traits(
        ways=NO_WAYS,
        incremental=True,
        exact_posterior=True,
        kind="regression",
        representation="embedding",
    )

    def __init__(self, encoder: Encoder, config: BayesLinearConfig) -> None:
        super().__init__(encoder, config)
        inside = [config.width] * (config.layers - 1)
        self.phi = nn.Sequential(perceptron([config.dim, *inside, config.features], nn.Tanh), nn.Tanh())
        self.prior_mean = nn.Parameter(torch.zeros(config.features, config.target))
        self.prior_factor = nn.Parameter(torch.zeros(config.features, config.features))
        """The Cholesky factor of Λ₀, with logarithms on the diagonal; unused above it."""
        self.log_noise = nn.Parameter(torch.full((config.target,), -2.0))

    def adapt(self, support: Support, prior: TaskWeights | None = None) -> TaskWeights:
        """Sum the statistics of the support set. Raises `LearnerError` for values that are too large."""
        support = without_padding(support)
        assert support.targets is not None
        phi = self.phi(support.features).double() * support.mask[..., None]
        gram = phi.transpose(1, 2) @ phi
        moment = phi.transpose(1, 2) @ support.targets.double()
        if prior is not None:
            gram, moment = gram + prior.task["gram"], moment + prior.task["moment"]
        return task_weights(support, gram=gram, moment=moment)

    def predict(
        self, weights: TaskWeights, features: Float[Tensor, "tasks query d"], noise: Noise | None = None
    ) -> Gaussian:
        phi = self.phi(features).double()
        precision = self.prior_precision
        factor = safe_cholesky(weights.task["gram"] + precision)
        moment = weights.task["moment"] + precision @ self.prior_mean.double()
        mean = phi @ torch.cholesky_solve(moment, factor)
        whitened = torch.linalg.solve_triangular(factor, phi.transpose(1, 2), upper=False)
        spread = whitened.square().sum(1)[..., None]
        noise_variance = self.noise_variance
        return Gaussian(mean.float(), noise_variance.expand(mean.shape), spread.float() * noise_variance)

    def loss(self, episodes: Episodes, progress: float) -> Losses:
        """Return the −log likelihood of a query in nats, given the support set."""
        data = functions_of(self.embed, episodes)
        answer = self.predict(self.adapt(data.support), data.query)
        nll = mean_over(-answer.log_prob(data.target), data.real)
        error = squared_error(answer.mean, data.target, data.real)
        return Losses(nll, {"nll": nll.detach(), "mse": error.detach()})

    @property
    def noise_variance(self) -> Float[Tensor, "target"]:
        variance: Tensor = self.config.noise_floor + self.log_noise.exp()
        return variance

    @property
    def prior_precision(self) -> Float[Tensor, "features features"]:
        """Λ₀ in float64."""
        raw = self.prior_factor.double()
        factor = raw.tril(-1) + raw.diagonal().exp().diag_embed()
        precision: Tensor = factor @ factor.T
        return precision
