"""Images: hostile bytes to 28×28 ink.

Nothing is decoded before the format is on the allow-list and width × height is within the cap: a 9.9 kB PNG
can expand to 231 MB, and Pillow only warns. Decoded pixels are shrunk at once.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_serializer
from torch import Tensor

from models.inputs.ink import ink
from models.inputs.raw import ImageBytes, InputError, RawInput

# Pillow warns of sizes refused here and of metadata repaired: a hostile client must not fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_BYTES = 20 << 20
MAX_PIXELS = 40_000_000
WORKING_SIDE = 128
"""Pictures are shrunk by whole factors until their longer side is below twice this."""

Format = Literal["PNG", "JPEG", "WEBP", "GIF", "BMP"]
ALLOWED: tuple[Format, ...] = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

_FOREIGN = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"8BPS": "PSD",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "SVG",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\0\0\0\x0cJXL": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"qoif": "QOI",
    b"DDS ": "DDS",
}
"""Well-known beginnings of pictures that are refused by name."""

_ORIENTATION_TAG = 0x0112
_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
)
"""Exceptions that Pillow's decoders raise on damaged files; it has none of its own for them."""


class ImageInput(BaseModel):
    """Pictures of strokes, of any size, colour mode and polarity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["image"] = "image"
    size: int = Field(default=28, ge=1, le=WORKING_SIDE)
    channels: Literal[1] = 1
    crop: bool = False
    """Cut out the box of the strokes, so that place and size on the paper do not matter."""

    @model_serializer(mode="wrap")
    def _described(self, describe: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out `crop` if it is off: learners older than the option have digests without it."""
        described = describe(self)
        return described if self.crop else {key: described[key] for key in described if key != "crop"}

    def decode(self, raw: RawInput) -> npt.NDArray[np.float32]:
        """Return float32 [1, size, size] in [0, 1], ink high.

        Raises `InputError`: wrong_kind, not_an_image, unsupported_image_format, truncated_image,
        image_too_large (the limit is in bytes or in pixels, as the detail says).
        """
        if not isinstance(raw, ImageBytes):
            raise InputError("wrong_kind", f"This learner takes images, not {raw.kind}s.")
        pixels = torch.from_numpy(decode_pixels(raw.data))
        with torch.no_grad():
            glyph: npt.NDArray[np.float32] = self.from_pixels(pixels[None])[0].numpy()
        return glyph

    def from_pixels(
        self, pictures: UInt8[Tensor, "n height width channels"]
    ) -> Float[Tensor, "n 1 size size"]:
        """Return ink in [0, 1], as `decode` does."""
        return ink(pictures, self.size, crop=self.crop)

    def like(self, first: npt.NDArray[np.float32]) -> ImageInput:
        """Return the input of a task whose first decoded example is `first`: images have one size anyway."""
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one decoded input."""
        return self.channels, self.size, self.size

    @property
    def stored_form(self) -> ImageInput:
        """Input by which pictures are stored for training: twice the side, which augmentation halves."""
        return ImageInput(size=2 * self.size)


def pixel_count(data: bytes) -> int:
    """Return width × height from the header alone; nothing is decoded. Raises `InputError`."""
    with _opened(data) as image:
        return image.width * image.height


def decode_pixels(data: bytes) -> npt.NDArray[np.uint8]:
    """Return uint8 [height, width, 1 or 3]: upright, on white, at most 255 pixels a side. Raises `InputError`."""
    with _opened(data) as image:
        try:
            # A JPEG is decoded at a fraction of its size when that is all that is needed.
            image.draft(None, (WORKING_SIDE, WORKING_SIDE))
            image.load()
            orientation = _orientation(image)
            small = _shrunk(image)
        except MemoryError as error:
            raise InputError("image_too_large", "There is not enough memory for the image.") from error
        except _DAMAGED as error:
            raise InputError("truncated_image", "The image is cut off or damaged.") from error
    pixels = np.array(small if orientation is None else small.transpose(orientation))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def sniff(data: bytes) -> Format:
    """Return the format by its first bytes. Raises `InputError`: not_an_image, unsupported_image_format."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM") and len(data) > 26:
        return "BMP"
    name = next((name for start, name in _FOREIGN.items() if data.lstrip()[:8].startswith(start)), None)
    if data[4:8] == b"ftyp":
        name = "HEIF or AVIF"
    if name is not None:
        raise InputError("unsupported_image_format", f"{name} is not read; use one of {', '.join(ALLOWED)}.")
    raise InputError("not_an_image", f"The bytes are not an image; use one of {', '.join(ALLOWED)}.")


def _opened(data: bytes) -> Image.Image:
    """Return the image with only its header read, within the caps."""
    if len(data) > MAX_BYTES:
        raise InputError(
            "image_too_large", f"The image has {len(data)} bytes, more than {MAX_BYTES}.", MAX_BYTES
        )
    found = sniff(data)
    too_large = InputError("image_too_large", f"The image has more than {MAX_PIXELS} pixels.", MAX_PIXELS)
    try:
        image = Image.open(io.BytesIO(data), formats=[found])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise too_large from error
    except _DAMAGED as error:
        raise InputError("truncated_image", f"The {found} image is cut off or damaged.") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise too_large
    if image.width < 1 or image.height < 1:
        image.close()
        raise InputError("truncated_image", "The image has no pixels.")
    return image


def _orientation(image: Image.Image) -> Image.Transpose | None:
    tag = image.getexif().get(_ORIENTATION_TAG)
    return _ORIENTATION.get(tag) if isinstance(tag, int) else None


def _shrunk(image: Image.Image) -> Image.Image:
    """Return the image on white, averaged over boxes of a whole factor; one band is converted at a time."""
    factor = max(1, max(image.size) // WORKING_SIDE)
    if factor == 1:
        return _on_white(image)
    width, height = image.size
    band = factor * WORKING_SIDE // 8
    tops = range(0, height, band)
    strips = [_on_white(image.crop((0, top, width, min(top + band, height)))).reduce(factor) for top in tops]
    small = Image.new(strips[0].mode, (strips[0].width, -(-height // factor)))
    for top, strip in zip(tops, strips, strict=True):
        small.paste(strip, (0, top // factor))
    return small


def _on_white(image: Image.Image) -> Image.Image:
    """Return grey or RGB of any mode: transparency laid on white, 16 bits cut to the upper 8."""
    if image.mode.startswith("I"):
        wide = np.asarray(image.convert("I")).clip(0, 0xFFFF)
        image = Image.fromarray((wide >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
