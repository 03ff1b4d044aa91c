"""The training loop of Bayes by Backprop (1505.05424): an MLP of ReLU layers that learns a Gaussian for each weight.

The loss of minibatch i of M is π_i KL(q ‖ p) − E_q[log likelihood of the batch], with Σ π_i = 1. With `local`,
outputs of each layer are sampled per example instead of its weights, which is exact for linear layers and has less
variance (1506.02557). The KL to the scale mixture has no closed form and is estimated from one sample of all weights.
Both estimates are unbiased.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.bayes.variational import MeanField, ScaleMixture, linear_moments, minibatch_weight
from models.training.trainer import TrainingDivergedError

EpochCallback = Callable[[dict[str, float]], None]


class VariationalConfig(BaseModel):
    """Hyperparameters, with defaults chosen on held-out training digits of MNIST."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: int = Field(default=400, ge=1, le=4096)
    layers: int = Field(default=2, ge=0, le=8)
    """Number of hidden layers."""
    share: float = Field(default=0.25, gt=0, lt=1)
    """π of the prior, the share of the wide Gaussian."""
    wide: float = Field(default=math.exp(-1), gt=0)
    narrow: float = Field(default=math.exp(-6), gt=0)
    deviation: float = Field(default=0.005, gt=0)
    """Initial σ of every weight."""
    local: bool = True
    schedule: Literal["even", "geometric"] = "even"
    """Weight of the KL in a minibatch: 1/M, or 2^(M−i)/(2^M − 1)."""
    epochs: int = Field(default=75, ge=1)
    batch: int = Field(default=250, ge=1)
    lr: float = Field(default=3e-3, gt=0)
    """Learning rate of Adam, which falls to zero along a cosine."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Precision of matrix products in training if `local`; weights, KL and predictions are fp32."""
    seed: int = 0

    @property
    def prior(self) -> ScaleMixture:
        """The prior of every weight."""
        return ScaleMixture(self.share, self.wide, self.narrow)


def train_variational(
    x: Float[Tensor, "n d"],
    y: Int[Tensor, "n"],
    classes: int,
    config: VariationalConfig,
    report: EpochCallback,
) -> MeanField:
    """Return the posterior after all epochs. Raise `TrainingDivergedError` if the loss is not finite."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = mlp(x.shape[1], classes, config.units, config.layers)
    field, generator = MeanField(network, config.deviation), torch.Generator().manual_seed(config.seed)
    batches = math.ceil(len(y) / config.batch)
    optimiser = torch.optim.Adam(field.parameters(), lr=config.lr, fused=True)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs * batches)
    for epoch in range(1, config.epochs + 1):
        totals = torch.zeros(2)
        order = torch.randperm(len(y), generator=generator)
        for index, chosen in enumerate(order.split(config.batch), start=1):
            weight = 1 / batches if config.schedule == "even" else minibatch_weight(index, batches)
            nll, divergence = _parts(field, x[chosen], y[chosen], config, generator)
            # The loss of the batch divided by its size: the same minimum with steps of the usual size.
            loss = nll + weight * divergence / len(chosen)
            if not torch.isfinite(loss):
                raise TrainingDivergedError(f"the loss is {loss.item()} in epoch {epoch}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            falling.step()
            totals += torch.stack((nll.detach(), divergence.detach() / len(y)))
        nll_mean, divergence_mean = (totals / batches).tolist()
        report({"epoch": epoch, "nll": nll_mean, "kl_per_example": divergence_mean})
    return field.eval().requires_grad_(False)


def mlp(inputs: int, outputs: int, units: int, layers: int) -> nn.Sequential:
    """Return an MLP of ReLU layers."""
    widths = [inputs, *[units] * layers]
    hidden = [part for i in range(layers) for part in (nn.Linear(widths[i], widths[i + 1]), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(widths[-1], outputs))


def sampled_outputs(
    field: MeanField, x: Float[Tensor, "n d"], generator: torch.Generator
) -> Float[Tensor, "n out"]:
    """Return outputs of a field over `mlp` by local reparameterisation: outputs of layers are sampled, not weights."""
    means, deviations = field.means, field.deviations
    layers = [name.removesuffix(".weight") for name in means if name.endswith(".weight")]
    for layer in layers:
        # The bias is the weight of a constant input of 1.
        mean, deviation = (_with_bias(values, layer) for values in (means, deviations))
        centre, spread = linear_moments(F.pad(x, (0, 1), value=1.0), mean, deviation)
        x = centre + spread * torch.randn(centre.shape, generator=generator)
        if layer != layers[-1]:
            x = F.relu(x)
    return x


def averaged_probabilities(
    field: MeanField, x: Float[Tensor, "n d"], samples: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n"]]:
    """Return the mean of the *probabilities* of `samples` sampled networks, and the mean of their entropies, in
    nats."""
    total, entropy = torch.zeros(()), torch.zeros(())
    for _ in range(samples):
        log_probs = field(x, field.draw(generator)).log_softmax(-1)
        total = total + log_probs.exp()
        entropy = entropy - (log_probs.exp() * log_probs).sum(-1)
    return total / samples, entropy / samples


def _parts(
    field: MeanField,
    x: Float[Tensor, "n d"],
    y: Int[Tensor, "n"],
    config: VariationalConfig,
    generator: torch.Generator,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the mean negative log likelihood under sampled outputs or weights, and the KL."""
    weights = field.draw(generator)
    if config.local:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            logits = sampled_outputs(field, x, generator).float()
    else:
        logits = field(x, weights)
    return F.cross_entropy(logits, y), field.divergence(config.prior, weights)


def _with_bias(values: dict[str, Tensor], layer: str) -> Float[Tensor, "leave enter"]:
    return torch.cat((values[f"{layer}.weight"], values[f"{layer}.bias"][:, None]), dim=1)
