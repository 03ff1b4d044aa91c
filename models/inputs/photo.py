"""Colour pictures: hostile bytes to RGB on a square, by the function that training and evaluation call too."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.inputs.image import WORKING_SIDE, decode_pixels
from models.inputs.ink import area_resize
from models.inputs.raw import ImageBytes, InputError, RawInput

SIZE = 32


class PhotoInput(BaseModel):
    """A learner that takes pictures in colour, of any size and mode; grey ones become RGB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image"] = "image"
    size: int = Field(default=SIZE, ge=16, le=WORKING_SIDE)
    channels: Literal[3] = 3

    def decode(self, raw: RawInput) -> npt.NDArray[np.float32]:
        """Float32 [3, size, size] in [0, 1], upright, transparency on white.

        Raises `InputError`: wrong_kind, not_an_image, unsupported_image_format, truncated_image,
        image_too_large (the limit is in bytes or in pixels, as the detail says).
        """
        if not isinstance(raw, ImageBytes):
            raise InputError("wrong_kind", f"This learner takes images, not {raw.kind}s.")
        pixels = torch.from_numpy(decode_pixels(raw.data))
        with torch.no_grad():
            picture: npt.NDArray[np.float32] = photo(pixels[None], self.size)[0].numpy()
        return picture

    def like(self, first: npt.NDArray[np.float32]) -> PhotoInput:
        """The input of a task whose first decoded example is `first`: images have one size anyway."""
        return self


def photo(
    images: UInt8[Tensor, "n height width channels"], size: int = SIZE
) -> Float[Tensor, "n 3 size size"]:
    """RGB in [0, 1]: the square in the middle, averaged over areas. Pictures of `size` keep every pixel."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
    return area_resize(square.expand(-1, 3, -1, -1).float() / 255, size).contiguous()
