"""Conv-4 on colour pictures (Vinyals et al. 2016; the wide one of R2-D2, Bertinetto et al. 2019, 1805.08136).

The blocks are those of `conv4`. Four widths of 64 make the common backbone of CIFAR-FS, 96-192-384-512 that of
R2-D2. BatchNorm uses its running statistics in evaluation mode, so a feature never depends on its neighbours.

With `mirrored` a feature in evaluation mode is the mean over the picture and its mirror image: the content of a photo
does not depend on the side it is seen from. That costs twice the arithmetic and no parameter. With `radius` features
are put on a sphere, as cosine classifiers do (Gidaris, Komodakis 2018, 1804.09458): the strength with which a picture
excites the network says little about its content.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from models.data.photo_augmentation import PhotoAugmentation
from models.encoder_protocol import Encoder, EncoderConfig
from models.encoders.conv4 import block, folded
from models.inputs import PhotoInput
from models.inputs.photo import SIZE

CHANNELS = 3
_BLOCKS = 4


class Conv4RgbConfig(EncoderConfig):
    widths: tuple[int, ...] = Field(default=(64,) * _BLOCKS, min_length=_BLOCKS, max_length=_BLOCKS)
    """Channels of each block."""
    size: int = Field(default=SIZE, ge=1 << _BLOCKS, le=128)
    """Side of the pictures."""
    mirrored: bool = False
    """Average features over both mirror images, once trained."""
    radius: float | None = Field(default=None, gt=0, le=1_000)
    """Length that features are scaled to; None leaves them alone."""


class Conv4Rgb(Encoder):
    Config = Conv4RgbConfig
    config: Conv4RgbConfig

    def __init__(self, config: Conv4RgbConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.widths[-1] * (config.size >> _BLOCKS) ** 2
        self.blocks = nn.Sequential(*(block(i, o) for i, o in pairwise((CHANNELS, *config.widths))))
        self.blocks = self.blocks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, x: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        return _features(self.blocks, x, self.config, mirrored=self.config.mirrored and not self.training)

    def input_spec(self) -> PhotoInput:
        return PhotoInput(size=self.config.size)

    def augmentation(self) -> PhotoAugmentation:
        return PhotoAugmentation()

    def fold(self) -> nn.Module:
        return _Folded(folded(self.eval().blocks), self.config)


class _Folded(nn.Module):
    def __init__(self, blocks: nn.Module, config: Conv4RgbConfig) -> None:
        super().__init__()
        self.blocks = blocks
        self.config = config

    def forward(self, x: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
        return _features(self.blocks, x, self.config, mirrored=self.config.mirrored)


def _features(
    blocks: nn.Module, x: Float[Tensor, "n 3 size size"], config: Conv4RgbConfig, *, mirrored: bool
) -> Float[Tensor, "n dim"]:
    features = _flat(blocks, x)
    if mirrored:
        features = 0.5 * (features + _flat(blocks, x.flip(-1)))
    if config.radius is None:
        return features
    return config.radius * F.normalize(features.float(), dim=1)


def _flat(blocks: nn.Module, x: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n dim"]:
    """Return features of pictures in [0, 1], centred first: padding with zeros is then padding with grey."""
    features: Tensor = blocks((4 * x - 2).contiguous(memory_format=torch.channels_last))
    return features.flatten(1)
