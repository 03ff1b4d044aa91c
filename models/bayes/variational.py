"""Bayes by Backprop (Blundell et al. 2015, 1505.05424): a Gaussian for every weight of any network.

q(w) = N(μ, σ²), independent, σ = softplus(ρ). The loss is KL(q ‖ p) − E_q[log likelihood]. The prior p is a Gaussian,
whose KL has a closed form, or a scale mixture π N(0, σ₁²) + (1 − π) N(0, σ₂²) *of each weight*, with log p that of the
drawn weights; the paper draws log q too, but its mean is known: less variance, the same gradient. KL is always a sum
over weights.

`MeanField` makes any module variational; its layers are unchanged and get drawn tensors. For a linear layer
`linear_moments` gives the Gaussian of its outputs, to be drawn instead of the weights: the local
reparameterisation (Kingma, Salimans, Welling 2015, 1506.02557), with less variance.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F


class Prior(ABC):
    """Distribution of weights before any data."""

    @abstractmethod
    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Log density of each weight, in nats."""


@dataclass(frozen=True)
class GaussianPrior(Prior):
    deviation: float = 1.0

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return _log_normal(w, self.deviation)


@dataclass(frozen=True)
class ScaleMixture(Prior):
    """A wide and a narrow Gaussian. The paper tries π ∈ {¼, ½, ¾}, −log σ₁ ∈ {0, 1, 2}, −log σ₂ ∈ {6, 7, 8}."""

    share: float = 0.5
    """π, the share of the wide one."""
    wide: float = 1.0
    narrow: float = math.exp(-6)

    def log_prob(self, w: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        square, odds = w.square(), (1 - self.share) * self.wide / (self.share * self.narrow)
        wide = math.log(self.share / self.wide) - 0.5 * math.log(2 * math.pi) - square / (2 * self.wide**2)
        # log(e^a + e^b) = a + softplus(b − a): half the passes over the weights that logaddexp makes.
        return wide + F.softplus(math.log(odds) + square * (0.5 / self.wide**2 - 0.5 / self.narrow**2))


def gaussian_kl(
    mean: Float[Tensor, "*shape"], log_variance: Float[Tensor, "*shape"], prior: GaussianPrior
) -> Float[Tensor, "*shape"]:
    """KL(N(mean, exp(log_variance)) ‖ prior) of each weight, in nats."""
    log_ratio = log_variance - 2 * math.log(prior.deviation)
    return 0.5 * (log_ratio.exp() + (mean / prior.deviation).square() - 1 - log_ratio)


def sampled_kl(
    w: Float[Tensor, "*shape"], deviation: Float[Tensor, "*shape"], prior: Prior
) -> Float[Tensor, "*shape"]:
    """−H(q) − log p(w) of each weight, q of this deviation: its mean over draws w of q is KL(q ‖ p)."""
    return -(deviation.log() + 0.5 * math.log(2 * math.pi * math.e)) - prior.log_prob(w)


def minibatch_weight(index: int, batches: int) -> float:
    """Return 2^(M−i)/(2^M − 1), the weight of the KL in batch i = 1..M of an epoch: the prior counts first."""
    if not 1 <= index <= batches:
        raise ValueError(f"batch {index} of {batches}")
    # Divided through by 2^M: epochs of more than 1,023 batches overflow otherwise.
    return math.ldexp(1.0, -index) / -math.expm1(-batches * math.log(2))


def linear_moments(
    x: Float[Tensor, "*lead n enter"],
    mean: Float[Tensor, "*lead leave enter"],
    deviation: Float[Tensor, "*lead leave enter"],
) -> tuple[Float[Tensor, "*lead n leave"], Float[Tensor, "*lead n leave"]]:
    """Mean and deviation of W x for Gaussian W. Exact for each x; outputs of one x are independent."""
    variance = x.square() @ deviation.square().mT
    # The root has no gradient at 0.
    return x @ mean.mT, variance.clamp_min(1e-12).sqrt()


class MeanField(nn.Module):
    """Means and deviations for all parameters of `network`, which serves for its form and start only.

    `field(x, field.draw(generator))` answers with drawn weights, `field(x)` with the means. Raises `ValueError` for
    networks with buffers: BatchNorm's statistics are state that no weight holds.
    """

    def __init__(self, network: nn.Module, deviation: float = 0.05) -> None:
        super().__init__()
        if next(network.buffers(), None) is not None:
            raise ValueError("a network with buffers has state besides its weights")
        start = dict(network.named_parameters())
        # A tuple hides the module: its own parameters must not be trained or stored.
        self._hidden = (network,)
        self._names = {name: name.replace(".", "/") for name in start}
        rho = math.log(math.expm1(deviation))
        self.mean = nn.ParameterDict({self._names[name]: w.detach().clone() for name, w in start.items()})
        self.rho = nn.ParameterDict({self._names[name]: torch.full_like(w, rho) for name, w in start.items()})

    @property
    def means(self) -> dict[str, Tensor]:
        return {name: self.mean[key] for name, key in self._names.items()}

    @property
    def deviations(self) -> dict[str, Tensor]:
        return {name: F.softplus(self.rho[key]) for name, key in self._names.items()}

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw one set of weights w = μ + σ ε."""
        deviations = self.deviations
        return {
            name: mean + deviations[name] * torch.randn(mean.shape, generator=generator, device=mean.device)
            for name, mean in self.means.items()
        }

    def forward(self, x: Shaped[Tensor, "*input"], weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """Run the network with `weights`, or with the means."""
        found: Tensor = functional_call(self._hidden[0], dict(weights or self.means), (x,))
        return found

    def divergence(self, prior: Prior, weights: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the KL to the prior, summed over weights: exact for a Gaussian, else estimated by `weights`."""
        deviations = self.deviations
        parts = []
        for name, mean in self.means.items():
            deviation = deviations[name]
            if isinstance(prior, GaussianPrior):
                parts.append(gaussian_kl(mean, 2 * deviation.log(), prior).sum())
            else:
                parts.append(sampled_kl(weights[name], deviation, prior).sum())
        return torch.stack(parts).sum()

    @torch.no_grad()
    def pruned(self, share: float) -> dict[str, Tensor]:
        """Return the means, with the `share` of all weights of least signal |μ|/σ at 0."""
        deviations = self.deviations
        signal = {name: mean.abs() / deviations[name] for name, mean in self.means.items()}
        flat = torch.cat([value.flatten() for value in signal.values()])
        count = int(share * len(flat))
        threshold = flat.sort().values[count - 1] if count else flat.new_tensor(-1.0)
        return {name: mean * (signal[name] > threshold) for name, mean in self.means.items()}


def _log_normal(w: Float[Tensor, "*shape"], deviation: float) -> Float[Tensor, "*shape"]:
    return -0.5 * (w / deviation).square() - math.log(deviation) - 0.5 * math.log(2 * math.pi)
