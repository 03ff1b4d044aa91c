"""Several depths of one network, and the picture itself, side by side as the feature of a picture.

What a task needs may lie before the last layer: of clothes the next to last block of an encoder of characters tells
more, of aligned faces the pixels do. The last block comes whole; the block before it and the pixels by their principal
components over training pictures. A learner that weighs sources of features by the task (`hyperkernel`) chooses.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.augmentation import Augmentation
from models.encoder_protocol import Encoder, EncoderConfig
from models.encoders.conv4 import Conv4, Conv4Config, folded_blocks
from models.encoders.conv4_rgb import Conv4Rgb, Conv4RgbConfig
from models.inputs import ImageInput, PhotoInput

_SHRINKAGE = 0.01
"""Share of the mean variance that is added to every direction before whitening."""
_POOLED = 256
"""Numbers beyond which the block before the last is averaged over 2×2 first."""


class DepthsConfig(EncoderConfig):
    base: Literal["conv4", "conv4-rgb"] = "conv4"
    hparams: dict[str, object] = Field(default_factory=dict)
    """Hyperparameters of the base."""
    components: int = Field(default=128, ge=1, le=1024)
    """Principal components of the block before the last, and of the pixels."""


class Depths(Encoder):
    Config = DepthsConfig
    config: DepthsConfig
    before_mean: Tensor
    before_basis: Tensor
    pixel_mean: Tensor
    pixel_basis: Tensor
    domain_mean: Tensor
    domain_whitening: Tensor
    domain_distance: Tensor

    def __init__(self, config: DepthsConfig) -> None:
        super().__init__()
        self.config = config
        self.base: Conv4 | Conv4Rgb
        if config.base == "conv4":
            self.base = Conv4(Conv4Config.model_validate(config.hparams))
            self._mirrored, shape = False, (1, 1, 28, 28)
        else:
            settings = Conv4RgbConfig.model_validate(config.hparams)
            self.base = Conv4Rgb(settings)
            self._mirrored, shape = settings.mirrored, (1, 3, settings.size, settings.size)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            device = next(self.base.parameters()).device
            blank = torch.zeros(shape, device=device)
            last, before, pixels = (part.shape[1] for part in _depths(*self._halves(), blank, self._mirrored))
        for name, length in (("before", before), ("pixel", pixels)):
            self.register_buffer(f"{name}_mean", torch.zeros(length))
            self.register_buffer(f"{name}_basis", torch.zeros(length, config.components))
        self.sources = (last, config.components, config.components)
        self.dim = sum(self.sources)
        self.register_buffer("domain_mean", torch.zeros(self.dim))
        self.register_buffer("domain_whitening", torch.zeros(self.dim, self.dim))
        # Mean log distance of an example at home, its variance between classes and within; 0 until it is fitted.
        self.register_buffer("domain_distance", torch.zeros(3))

    @torch.no_grad()
    def fit_components(self, x: Float[Tensor, "n *input"]) -> None:
        """Take the principal components from pictures, as they come to the encoder."""
        self.eval()
        parts = [_depths(*self._halves(), chunk, self._mirrored)[1:] for chunk in x.split(512)]
        for name, values in zip(("before", "pixel"), map(torch.cat, zip(*parts, strict=True)), strict=True):
            mean = values.mean(0)
            covariance = (values - mean).T.double() @ (values - mean).double()
            leading = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : self.config.components]
            getattr(self, f"{name}_mean").copy_(mean)
            basis = getattr(self, f"{name}_basis")
            basis.zero_()
            basis[:, : leading.shape[1]] = leading.float()

    @torch.no_grad()
    def fit_domain(
        self, fitting: Float[Tensor, "n dim"], held_out: Float[Tensor, "m dim"], labels: Int[Tensor, "m"]
    ) -> None:
        """Learn what home looks like: from features of training pictures, and of classes held out from training."""
        mean = fitting.mean(0)
        covariance = ((fitting - mean).T.double() @ (fitting - mean).double()) / len(fitting)
        values, vectors = torch.linalg.eigh(covariance)
        floor = _SHRINKAGE * values.mean()
        self.domain_mean.copy_(mean)
        self.domain_whitening.copy_((vectors * (values + floor).rsqrt()).float())
        distance = self._log_distance(held_out)
        hot = F.one_hot(labels).to(distance)
        counts = hot.sum(0)
        means = (hot.T @ distance) / counts
        within = (distance - means[labels]).square().sum() / (len(labels) - len(counts))
        between = (means.var() - within * (1 / counts).mean()).clamp_min(1e-6)
        self.domain_distance.copy_(torch.stack((distance.mean(), between, within)))

    def familiarity(
        self,
        features: Float[Tensor, "tasks support *feature"],
        targets: Int[Tensor, "tasks support"] | Float[Tensor, "tasks support target"] | None,
        mask: Bool[Tensor, "tasks support"],
    ) -> Float[Tensor, "tasks"] | None:
        """Return the probability that a support set from home lies as far from its middle; None until it is fitted.

        Examples of a class are alike, so the mean over a support set varies with classes and with examples.
        """
        if not self.domain_distance[1] > 0:
            return None
        mean, between, within = self.domain_distance.unbind()
        examples = mask.sum(1)
        ways = examples
        if targets is not None and not targets.is_floating_point():
            ways = targets.masked_fill(~mask, 0).amax(1) + 1
        distance = (self._log_distance(features) * mask).sum(1) / examples
        deviation = (between / ways + within / examples).sqrt()
        fit: Tensor = 2 * torch.special.ndtr(-((distance - mean) / deviation).clamp_min(0))
        return fit

    def _log_distance(self, features: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead"]:
        """Return the log of the mean squared coordinate after whitening."""
        white = (features - self.domain_mean) @ self.domain_whitening
        return white.square().mean(-1).clamp_min(1e-12).log()

    def encode(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n dim"]:
        return self._project(*_depths(*self._halves(), x, self._mirrored and not self.training))

    def input_spec(self) -> ImageInput | PhotoInput:
        return self.base.input_spec()

    def augmentation(self) -> Augmentation:
        return self.base.augmentation()

    def fold(self) -> nn.Module:
        return _Folded(self.eval())

    def _halves(self) -> tuple[nn.Module, nn.Module]:
        return self.base.blocks[:-1], self.base.blocks[-1]

    def _project(self, last: Tensor, before: Tensor, pixels: Tensor) -> Float[Tensor, "n dim"]:
        return torch.cat(
            (
                last,
                (before - self.before_mean) @ self.before_basis,
                (pixels - self.pixel_mean) @ self.pixel_basis,
            ),
            dim=1,
        )


class _Folded(nn.Module):
    def __init__(self, encoder: Depths) -> None:
        super().__init__()
        first, last = encoder._halves()
        self.first, self.last = folded_blocks(first), folded_blocks(nn.Sequential(last))
        self.encoder = encoder
        self.mirrored = encoder._mirrored

    def forward(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n dim"]:
        return self.encoder._project(*_depths(self.first, self.last, x, self.mirrored))


def _depths(
    first: nn.Module, last: nn.Module, x: Float[Tensor, "n channels side side"], mirrored: bool
) -> tuple[Float[Tensor, "n last"], Float[Tensor, "n before"], Float[Tensor, "n pixels"]]:
    """Return the last block, the one before it and the pixels, flat. Photos are averaged over mirror images."""
    colour = x.shape[1] > 1
    centred = (4 * x - 2).contiguous(memory_format=torch.channels_last) if colour else x
    before = first(centred)
    deep = last(before)
    if mirrored:
        turned = first(centred.flip(-1).contiguous(memory_format=torch.channels_last))
        deep = 0.5 * (deep + last(turned))
        before = 0.5 * (before + turned.flip(-1))
    if before[0].numel() > _POOLED and before.shape[-1] % 2 == 0:
        before = F.avg_pool2d(before, 2)
    pixels = F.avg_pool2d(x, 2) if colour else x
    return deep.flatten(1), before.flatten(1), pixels.flatten(1)
