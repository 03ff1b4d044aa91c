"""A variational autoencoder (1312.6114) of stream tasks, whose decoder is a network or a generated one.

Pixels are probabilities of ink: the loss of an example is Σ binary cross-entropy + KL(q(z | x) ‖ N(0, I)).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from experiments.continual.baselines.flat_networks import Network

LATENT = 100
Decode = Callable[[Float[Tensor, "n latent"]], Float[Tensor, "n pixels"]]
"""Maps latents to logits of pixels."""


def encoder(
    pixels: int,
    hidden: tuple[int, ...],
    latent: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Network:
    """Return an encoder, which outputs mean and log variance side by side."""
    return Network((pixels, *hidden, 2 * latent), generator, device)


def negative_elbo(
    x: Float[Tensor, "n pixels"],
    encoded: Float[Tensor, "n twice"],
    decode: Decode,
    generator: torch.Generator,
) -> Float[Tensor, "n"]:
    """Return the negative ELBO of each input, in nats, from one draw of z."""
    mean, log_variance = encoded.chunk(2, dim=1)
    z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator).to(mean.device)
    ink = F.binary_cross_entropy_with_logits(decode(z).float(), x, reduction="none").sum(1)
    return ink + (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2


@torch.no_grad()
def generated_images(
    count: int,
    latent: int,
    decode: Decode,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "n pixels"]:
    """Generate images with pixels from 0 to 1."""
    return decode(torch.randn(count, latent, generator=generator).to(device)).float().sigmoid()


def distillation(
    logits: Float[Tensor, "n classes"],
    targets: Float[Tensor, "n known"],
    temperature: float,
    unknown: float = -torch.inf,
) -> Float[Tensor, ""]:
    """Return T² · cross-entropy to the softened targets (1503.02531).

    Classes missing from the targets get the logit `unknown`; −∞ is a probability of 0.
    """
    soft = (F.pad(targets, (0, logits.shape[1] - targets.shape[1]), value=unknown) / temperature).softmax(-1)
    return -(temperature**2) * (soft * (logits / temperature).log_softmax(-1)).sum(-1).mean()
