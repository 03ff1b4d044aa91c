"""The protocol of encoders: raw inputs to features that all tasks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.augmentation import Augmentation
from models.inputs import InputSpec


class EncoderConfig(BaseModel):
    """Base of every encoder's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Encoder(nn.Module, ABC):
    """Base of every encoder, built as `cls(config)`. A new one is one file and one line in `models.registry`."""

    Config: ClassVar[type[EncoderConfig]] = EncoderConfig
    config: EncoderConfig
    dim: int | None
    """Length of a feature, None if it is that of the input."""
    sources: tuple[int, ...] | None = None
    """Lengths of the parts of a feature that come from several sources, such as depths; None if it is one whole."""
    compute_dtype: torch.dtype | None = None
    """Precision of the arithmetic inside (bfloat16 in fast training); features come out in float32."""

    @classmethod
    def hparams_for(cls, shape: tuple[int, ...]) -> dict[str, object]:
        """Return the hyperparameters that follow from the shape of one stored input; by default none does."""
        return {}

    def forward(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n dim"]:
        if self.compute_dtype is None:
            return self.encode(x)
        with torch.autocast(x.device.type, dtype=self.compute_dtype):
            return self.encode(x).float()

    @abstractmethod
    def encode(self, x: Float[Tensor, "n *input"]) -> Float[Tensor, "n dim"]:
        """Return the features; in evaluation mode none depends on its neighbours in the batch."""

    @abstractmethod
    def input_spec(self) -> InputSpec:
        """Return the input that the encoder takes; a learner's description holds it."""

    def familiarity(
        self,
        features: Float[Tensor, "tasks support *feature"],
        targets: Int[Tensor, "tasks support"] | Float[Tensor, "tasks support target"] | None,
        mask: Bool[Tensor, "tasks support"],
    ) -> Float[Tensor, "tasks"] | None:
        """Return how well support sets fit what the encoder was trained on, in [0, 1]: near 0 they are foreign to it.

        The examples are features of this encoder, padded where `mask` is false. None, the default, if it has no such
        check. Serving asks once for each version of a classification task; a value that is not finite refuses it.
        """
        return None

    def augmentation(self) -> Augmentation | None:
        """Return the random changes that training makes to inputs, at common strength; None leaves them alone."""
        return None

    def fold(self) -> nn.Module:
        """Return the same function as serving runs it, BatchNorm folded away; by default the encoder itself."""
        return self
