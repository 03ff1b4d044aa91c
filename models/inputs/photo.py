"""Photos: hostile bytes to RGB on a square, by the function that training and evaluation call too."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.inputs.flattening import WORKING_SIDE
from models.inputs.image import decode_pixels
from models.inputs.ink import area_resize
from models.inputs.raw import ImageBytes, InputError, RawInput

SIZE = 32


class PhotoInput(BaseModel):
    """Pictures in colour, of any size and mode; grey ones become RGB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image"] = "image"
    size: int = Field(default=SIZE, ge=16, le=WORKING_SIDE)
    channels: Literal[3] = 3

    def decode(self, raw: RawInput) -> npt.NDArray[np.float32]:
        """Return float32 [3, size, size] in [0, 1], upright, transparency on white, or on black below white paint.

        Raises `InputError`: wrong_kind, not_an_image, unsupported_image_format, truncated_image,
        image_too_large (the limit is in bytes or in pixels, as the detail says), image_too_complex.
        """
        if not isinstance(raw, ImageBytes):
            raise InputError("wrong_kind", f"This learner takes images, not {raw.kind}s.")
        pixels = torch.from_numpy(decode_pixels(raw.data))
        with torch.no_grad():
            picture: npt.NDArray[np.float32] = self.from_pixels(pixels[None])[0].numpy()
        return picture

    def from_pixels(
        self, pictures: UInt8[Tensor, "n height width channels"]
    ) -> Float[Tensor, "n 3 size size"]:
        """Return RGB in [0, 1], as `decode` does."""
        return photo(pictures, self.size)

    def like(self, first: npt.NDArray[np.float32]) -> PhotoInput:
        """Return the input of a task whose first decoded example is `first`: images have one size anyway."""
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one decoded input."""
        return self.channels, self.size, self.size

    @property
    def stored_form(self) -> PhotoInput:
        """Input by which pictures are stored for training: as they are."""
        return self


def photo(
    images: UInt8[Tensor, "n height width channels"], size: int = SIZE
) -> Float[Tensor, "n 3 size size"]:
    """Return RGB in [0, 1]: the square in the middle, averaged over areas. Pictures of `size` keep every pixel."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[:, top : top + side, left : left + side].permute(0, 3, 1, 2)
    return area_resize(square.expand(-1, 3, -1, -1).float() / 255, size).contiguous()
