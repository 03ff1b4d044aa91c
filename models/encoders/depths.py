"""Several depths of one network, and the picture itself, side by side as the feature of a picture.

What a task needs may lie before the last layer: of clothes the next to last block of an encoder of characters tells
more, of aligned faces the pixels do. The last block comes whole; the block before it and the pixels by their principal
components over training pictures. A learner that weighs sources of features by the task (`hyperkernel`) chooses.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.augmentation import Augmentation
from models.encoder_protocol import Encoder, EncoderConfig
from models.encoders.conv4 import Conv4, Conv4Config, folded_blocks
from models.encoders.conv4_rgb import Conv4Rgb, Conv4RgbConfig
from models.inputs import ImageInput, PhotoInput

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
