"""The protocol of augmentations: random changes of stored inputs that training makes as it draws them."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor


class Augmentation(BaseModel, ABC):
    """Base of every augmentation: its fields are its strengths, a call changes a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def scaled(self, strength: float) -> Augmentation:
        """Return the augmentation with every change times `strength`."""

    @abstractmethod
    def __call__(
        self, inputs: Tensor, task: Int[Tensor, "n"], generator: torch.Generator
    ) -> Float[Tensor, "n *input"]:
        """Return stored inputs changed and as the learner takes them; `task` tells which belong together.

        Raises `DatasetError` for inputs of another kind.
        """
