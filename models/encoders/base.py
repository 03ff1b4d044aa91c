"""An encoder maps raw inputs to features shared by all tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
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
    compute_dtype: torch.dtype | None = None
    """Precision of the arithmetic inside (bfloat16 in fast training); features come out in float32."""

    def forward(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n dim"]:
        if self.compute_dtype is None:
            return self.encode(x)
        with torch.autocast(x.device.type, dtype=self.compute_dtype):
            return self.encode(x).float()

    @abstractmethod
    def encode(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n dim"]: ...
