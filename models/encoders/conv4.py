"""Conv-4 (Vinyals et al. 2016, 1606.04080): four blocks of 3×3 convolution, BatchNorm, ReLU, 2×2 max-pool.

28×28 grey input becomes a feature of `width` numbers. In evaluation mode BatchNorm uses its running
statistics, so a feature never depends on its neighbours in a batch.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.data.glyph_augmentation import GlyphAugmentation
from models.encoder_protocol import Encoder, EncoderConfig
from models.inputs import ImageInput

_INPUT_SIDE = 28
_BLOCKS = 4


class Conv4Config(EncoderConfig):
    width: int = 64
    """Channels of every block, and the length of a feature."""


class Conv4(Encoder):
    Config = Conv4Config
    config: Conv4Config

    def __init__(self, config: Conv4Config) -> None:
        super().__init__()
        self.config = config
        self.dim = config.width * (_INPUT_SIDE >> _BLOCKS) ** 2
        widths = [1, *[config.width] * _BLOCKS]
        self.blocks = nn.Sequential(*(block(i, o) for i, o in pairwise(widths)))
        self.blocks = self.blocks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n dim"]:
        # One channel has either memory order, so the weights' order holds throughout.
        features: Tensor = self.blocks(x)
        return features.flatten(1)

    def input_spec(self) -> ImageInput:
        return ImageInput(size=_INPUT_SIDE)

    def augmentation(self) -> GlyphAugmentation:
        return GlyphAugmentation()

    def fold(self) -> nn.Module:
        return folded(self.eval().blocks)


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    nn.init.normal_(conv.weight, std=math.sqrt(2 / (9 * channels_out)))
    # ReLU after the pool is the same function on a quarter of the numbers.
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.MaxPool2d(2), nn.ReLU())


def folded(blocks: nn.Sequential) -> nn.Module:
    """Return blocks in evaluation mode as one function to flat features, BatchNorm folded into the convolutions."""
    whole = nn.Sequential(*folded_blocks(blocks).children(), nn.Flatten())
    return whole.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def folded_blocks(blocks: nn.Module) -> nn.Sequential:
    """Return blocks in evaluation mode with BatchNorm folded into the convolutions."""
    layers: list[nn.Module] = []
    for one in blocks.children():
        conv, norm, *rest = one.children()
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        layers += [fuse_conv_bn_eval(conv, norm), *rest]
    whole = nn.Sequential(*layers)
    return whole.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
