"""Identity encoder: features are the inputs, vectors that some other model has embedded already."""

from __future__ import annotations

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from models.encoder_protocol import Encoder, EncoderConfig
from models.inputs import VectorInput
from models.inputs.raw import MAX_VECTOR


class IdentityConfig(EncoderConfig):
    dim: int | None = Field(default=None, ge=1, le=MAX_VECTOR)
    """Length of the vectors; None takes any."""


class Identity(Encoder):
    Config = IdentityConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.dim if isinstance(config, IdentityConfig) else None

    @classmethod
    def hparams_for(cls, shape: tuple[int, ...]) -> dict[str, object]:
        """Return the length: vectors of one data set share it, and many methods need to know it."""
        return {"dim": shape[0]}

    def input_spec(self) -> VectorInput:
        return VectorInput(dim=self.dim)

    def encode(self, x: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        return x
