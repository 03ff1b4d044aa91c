"""Images: hostile bytes to 28×28 ink.

Nothing is decoded before the format is on the allow-list, the file is cut down to what its pixels need
(`image_files.py`) and width × height is within the cap: a 9.9 kB PNG can expand to 231 MB, and Pillow only warns.
Decoded pixels are shrunk at once.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_serializer
from torch import Tensor

from models.inputs.flattening import WORKING_SIDE, shrunk
from models.inputs.image_files import Format, ReducedImage, damaged, reduced, webp_size
from models.inputs.ink import ink
from models.inputs.orientation import upright
from models.inputs.raw import ImageBytes, InputError, RawInput

# Pillow warns of sizes refused here and of metadata repaired: a hostile client must not fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")

MAX_BYTES = 20 << 20
MAX_PIXELS = 40_000_000

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

_JPEG_END = b"\xff\xd9"
_JPEG_RESTARTS = b"\xff\xdd\0\4"
_JPEG_BITS = (bytes(range(16, 80)), bytes(range(200, 136, -1)))
"""Bits of all kinds: a decoder that still needs some makes other pixels of each."""
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
        image_too_large (the limit is in bytes or in pixels, as the detail says), image_too_complex.
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
    with _opened(_reduced(data, header_only=True)) as image:
        return image.width * image.height


def decode_pixels(data: bytes) -> npt.NDArray[np.uint8]:
    """Return uint8 [height, width, 1 or 3]: upright, on one ground, at most 255 pixels a side. Raises `InputError`."""
    file = _reduced(data)
    if not file.ends_early:
        return _decoded(file)
    # If more than the end marker is missing, the decoder takes pixels from what is put in its place.
    first, *others = (_decoded(replace(file, data=file.data + end)) for end in _tried_ends(file.data))
    if not all(np.array_equal(first, other) for other in others):
        raise damaged(file.format)
    return first


def _tried_ends(jpeg: bytes) -> Iterator[bytes]:
    """Return ends for a JPEG without one: its marker, behind nothing or behind bits that no picture holds."""
    yield _JPEG_END
    for bits in _JPEG_BITS:
        yield bits + _JPEG_END
    if _JPEG_RESTARTS in jpeg:
        last = max(range(8), key=lambda number: jpeg.rfind(bytes((0xFF, 0xD0 + number))))
        found = bytes((0xFF, 0xD0 + last)) in jpeg
        yield bytes((0xFF, 0xD0 + (last + found) % 8)) + _JPEG_BITS[0] + _JPEG_END


def _decoded(file: ReducedImage) -> npt.NDArray[np.uint8]:
    with _opened(file) as image:
        try:
            # A JPEG is decoded at a fraction of its size when that is all that is needed.
            image.draft(None, (WORKING_SIDE, WORKING_SIDE))
            image.load()
            if file.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
                # Many programs leave the fourth byte of a pixel 0.
                image.putalpha(255)
            small = shrunk(image, file.data if file.format == "PNG" else None)
        except MemoryError as error:
            raise InputError("image_too_large", "There is not enough memory for the image.") from error
        except _DAMAGED as error:
            raise damaged(file.format) from error
        exif, xmp = (file.exif, file.xmp) if file.format != "WEBP" else map(image.info.get, ("exif", "xmp"))
    orientation = upright(exif, xmp)
    pixels = np.array(small if orientation is None else small.transpose(orientation))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def sniff(data: bytes) -> Format:
    """Return the format by its first bytes. Raises `InputError`: not_an_image, unsupported_image_format."""
    if not data:
        raise InputError(
            "not_an_image", "The image has 0 bytes; rewind a file that was read before it is sent."
        )
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


def _reduced(data: bytes, *, header_only: bool = False) -> ReducedImage:
    """Return the file as it is decoded, after the checks that need no decoder. Raises `InputError`."""
    if len(data) > MAX_BYTES:
        raise InputError(
            "image_too_large", f"The image has {len(data)} bytes, more than {MAX_BYTES}.", MAX_BYTES
        )
    found = sniff(data)
    if found == "WEBP":
        width, height = webp_size(data)
        _check_size(width * height)
    return reduced(data, found, header_only=header_only)


def _opened(file: ReducedImage) -> Image.Image:
    """Return the image with only its header read, within the caps."""
    try:
        image = Image.open(io.BytesIO(file.data), formats=[file.format])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise _too_many_pixels() from error
    except _DAMAGED as error:
        raise damaged(file.format) from error
    try:
        _check_size(image.width * image.height)
        if image.width < 1 or image.height < 1:
            raise InputError("truncated_image", "The image has no pixels.")
    except InputError:
        image.close()
        raise
    return image


def _check_size(pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise _too_many_pixels()


def _too_many_pixels() -> InputError:
    return InputError("image_too_large", f"The image has more than {MAX_PIXELS} pixels.", MAX_PIXELS)
