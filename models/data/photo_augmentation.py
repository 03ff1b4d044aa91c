"""Augmentation of photos: shifted, mirrored, in other light. Each picture is changed on its own, in a batch.

Shifts are crops out of the picture padded by reflection, as is common for CIFAR; brightness, contrast and
saturation follow in that order.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from models.augmentation import Augmentation
from models.data.dataset import DatasetError

_LUMA = (0.299, 0.587, 0.114)


class PhotoAugmentation(Augmentation):
    pixels: int = Field(default=4, ge=0)
    """Largest shift, either way, of each axis; less than the side."""
    mirrored: float = Field(default=0.5, ge=0, le=1)
    """Share of pictures mirrored left to right."""
    brightness: float = Field(default=0.3, ge=0)
    contrast: float = Field(default=0.3, ge=0)
    saturation: float = Field(default=0.3, ge=0)
    """Largest relative changes."""

    def scaled(self, strength: float) -> PhotoAugmentation:
        """Return shifts and changes of light times `strength`; mirroring stays."""
        light = {name: getattr(self, name) * strength for name in ("brightness", "contrast", "saturation")}
        return self.model_copy(update={**light, "pixels": round(self.pixels * strength)})

    def __call__(
        self, inputs: Tensor, task: Int[Tensor, "n"], generator: torch.Generator
    ) -> Float[Tensor, "n 3 side side"]:
        if inputs.ndim != 4 or inputs.dtype != torch.uint8:
            raise DatasetError(
                "the augmentation of photos takes pictures in colour alone, [n, side, side, 3]"
            )
        return augment_photo(inputs, self, generator)


def augment_photo(
    pictures: UInt8[Tensor, "n side side 3"], config: PhotoAugmentation, generator: torch.Generator
) -> Float[Tensor, "n 3 side side"]:
    """Return RGB in [0, 1]."""
    n, side = pictures.shape[:2]
    pixels = min(config.pixels, side - 1)
    shift = torch.randint(-pixels, pixels + 1, (2, n), generator=generator)
    rows, columns = (_reflected(torch.arange(side) + moved[:, None], side) for moved in shift)
    turned = torch.rand(n, generator=generator) < config.mirrored
    columns = torch.where(turned[:, None], columns.flip(1), columns)
    # One gather crops, pads and mirrors, and still works on bytes.
    moved = pictures[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return _relit(moved.permute(0, 3, 1, 2).float() / 255, config, generator)


def _reflected(index: Tensor, side: int) -> Tensor:
    """Count positions beyond an edge back from it; the edge itself is not repeated."""
    return (side - 1) - ((side - 1) - index.abs()).abs()


def _relit(
    x: Float[Tensor, "n 3 side side"], config: PhotoAugmentation, generator: torch.Generator
) -> Float[Tensor, "n 3 side side"]:
    span = torch.tensor([config.brightness, config.contrast, config.saturation])
    factors = 1 + (torch.rand(len(x), 3, generator=generator) * 2 - 1) * span
    brightness, contrast, saturation = factors[..., None, None, None].unbind(1)
    x = x * brightness
    x = x.mean((1, 2, 3), keepdim=True).lerp(x, contrast)
    grey = (x * torch.tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    return grey.lerp(x, saturation).clamp(0, 1)
