"""An encoder maps raw inputs to features shared by all tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn


class EncoderConfig(BaseModel):
    """Base of every encoder's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Encoder(nn.Module, ABC):
    """`dim` is the length of a feature, None where it is that of the input."""

    Config: type[EncoderConfig] = EncoderConfig
    dim: int | None

    @abstractmethod
    def forward(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n dim"]: ...
