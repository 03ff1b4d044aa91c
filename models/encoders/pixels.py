"""Pictures as they are, made small and flat: what MANN (Santoro et al. 2016, 1605.06065) is told, at 20×20."""

from __future__ import annotations

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from models.encoders.base import Encoder, EncoderConfig
from models.inputs.ink import area_resize


class PixelsConfig(EncoderConfig):
    side: int = Field(default=20, ge=1, le=28)


class Pixels(Encoder):
    Config = PixelsConfig

    def __init__(self, config: PixelsConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.side**2

    def encode(self, x: Float[Tensor, "n 1 28 28"]) -> Float[Tensor, "n dim"]:
        return area_resize(x, self.config.side).flatten(1)
