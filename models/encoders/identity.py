"""Features are the inputs: for vectors that some other model has embedded already."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from models.encoders.base import Encoder, EncoderConfig


class Identity(Encoder):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = None

    def encode(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        return x
