"""Pixels as features: pictures made small and flat, the input of MANN (Santoro et al. 2016, 1605.06065) at 20×20."""

from __future__ import annotations

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from models.data.glyph_augmentation import GlyphAugmentation
from models.encoder_protocol import Encoder, EncoderConfig
from models.inputs import ImageInput
from models.inputs.ink import area_resize


class PixelsConfig(EncoderConfig):
    side: int = Field(default=20, ge=1, le=28)


class Pixels(Encoder):
    Config = PixelsConfig
    config: PixelsConfig

    def __init__(self, config: PixelsConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.side**2

    def input_spec(self) -> ImageInput:
        return ImageInput()

    def augmentation(self) -> GlyphAugmentation:
        return GlyphAugmentation()

    def encode(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n dim"]:
        return area_resize(x, self.config.side).flatten(1)
