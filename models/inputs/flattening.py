"""Pictures of any mode to grey or RGB of 8 bits: transparency is laid on a ground, and 16 bits are cut to 8.

What a picture shows must not be lost by it. Pictures that use the upper bits keep the upper 8; others keep the 8
upper bits that they use. A picture that would still be blank, but is not at 16 bits, is stretched to its own range.
White paint on transparency is laid on black, anything else on white.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from models.inputs.ink import MIN_CONTRAST

WORKING_SIDE = 128
"""Pictures are shrunk by whole factors until their longer side is below twice this."""
_OPAQUE = 0.98
"""Share of the greatest alpha from which on a pixel is paint, not the edge or shadow of some."""

_BYTE = 8
_UPPER_HALF = 128
_PNG_BIT_DEPTH, _PNG_COLOUR_TYPE = 24, 25
"""Places of two bytes of the header, which is always the first chunk."""
_GREY_WITH_ALPHA = 4

Box = tuple[int, int, int, int]
Crop = Callable[[Box], Image.Image]
Wide = npt.NDArray[np.uint16]
Channels = Callable[[Box], tuple[Wide, Wide | None]]
"""Colours [height, width, 1 or 3], and alpha [height, width] if there is any."""


def shrunk(image: Image.Image, png: bytes | None) -> Image.Image:
    """Return a loaded image as grey or RGB, averaged over boxes of a whole factor; one band is converted at a time.

    `png` is its file if that is a PNG: Pillow itself drops the lower 8 bits of 16 in colours.
    """
    factor = max(1, max(image.size) // WORKING_SIDE)
    boxes = list(_bands(image.size, factor))
    wide = png is not None and png[_PNG_BIT_DEPTH] == 2 * _BYTE
    crop = _sixteen_bits(image, png, boxes) if png is not None and wide else image.crop
    ground = _ground(crop, boxes)
    strips = [_on_ground(crop(box), ground).reduce(factor) for box in boxes]
    small = Image.new(strips[0].mode, (strips[0].width, -(-image.height // factor)))
    for box, strip in zip(boxes, strips, strict=True):
        small.paste(strip, (0, box[1] // factor))
    return small


def _bands(size: tuple[int, int], factor: int) -> Iterator[Box]:
    width, height = size
    rows = height if factor == 1 else factor * WORKING_SIDE // 8
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _on_ground(image: Image.Image, ground: str) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    paint = image.convert("RGBA")
    if paint.getchannel("A").getextrema() == (255, 255):
        return paint.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), paint).convert("RGB")


def _ground(crop: Crop, boxes: list[Box]) -> str:
    """Return black if all paint is so light that nobody would see it on white."""
    if not crop((0, 0, 1, 1)).has_transparency_data:
        return "white"
    greatest = 0
    for box in boxes:
        greatest = max(greatest, int(_alpha(crop(box)).getextrema()[1]))  # type: ignore[arg-type]
        if greatest == 255:
            break
    if greatest == 0:
        return "white"
    for box in boxes:
        red, green, blue, alpha = np.moveaxis(np.asarray(crop(box).convert("RGBA")), -1, 0)
        dark = np.minimum(np.minimum(red, green), blue) <= 255 - MIN_CONTRAST
        if (dark & (alpha >= _OPAQUE * greatest)).any():
            return "white"
    return "black"


def _alpha(image: Image.Image) -> Image.Image:
    return image.convert("RGBA").getchannel("A")


@dataclass(frozen=True)
class _Levels:
    """How 16-bit values become 8-bit ones: by a shift, or by the range that becomes 0 to 255."""

    shift: int
    span: tuple[int, int] | None = None

    @classmethod
    def of(cls, low: int, high: int) -> _Levels:
        shift = max(_BYTE, high.bit_length()) - _BYTE
        blank = (high >> shift) - (low >> shift) < MIN_CONTRAST
        return cls(shift, (low, high) if blank and high - low >= MIN_CONTRAST else None)

    def __call__(self, values: Wide) -> npt.NDArray[np.uint8]:
        if self.span is None:
            return (values >> self.shift).astype(np.uint8)
        low, high = self.span
        return ((values - np.uint16(low)).astype(np.uint32) * 255 // (high - low)).astype(np.uint8)


def _sixteen_bits(image: Image.Image, png: bytes, boxes: Sequence[Box]) -> Crop:
    """Return how to cut 8-bit boxes out of a PNG of 16 bits."""
    key = image.info.get("transparency")
    if not image.mode.startswith("I"):
        lowest, highest = _extrema(image)
        if key is None and highest >= _UPPER_HALF and highest - lowest >= MIN_CONTRAST:
            return image.crop
    channels = _channels(image, png)
    return partial(_cut, channels, *_all_levels(channels, boxes), key)


def _channels(image: Image.Image, png: bytes) -> Channels:
    if image.mode.startswith("I"):
        return partial(_grey_channel, image)
    if png[_PNG_COLOUR_TYPE] == _GREY_WITH_ALPHA:
        return partial(_grey_and_alpha, _reopened(png, "RGBA"))
    return partial(_colour_channels, image, _reopened(png, f"{image.mode};16L"))


def _all_levels(channels: Channels, boxes: Sequence[Box]) -> tuple[_Levels, _Levels]:
    """Return the levels of colours and of alpha, which shares the bits of the colours unless it uses more."""
    low, high, alpha = 0xFFFF, 0, 0
    for box in boxes:
        colours, opacity = channels(box)
        low, high = min(low, int(colours.min())), max(high, int(colours.max()))
        alpha = alpha if opacity is None else max(alpha, int(opacity.max()))
    levels = _Levels.of(low, high)
    narrow = alpha.bit_length() <= _BYTE + levels.shift
    return levels, _Levels(levels.shift if narrow else _BYTE)


def _cut(channels: Channels, levels: _Levels, opacity: _Levels, key: object, box: Box) -> Image.Image:
    values, alpha = channels(box)
    shown = levels(values)
    colours = Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown)
    if alpha is not None:
        colours.putalpha(Image.fromarray(opacity(alpha)))
    elif isinstance(key, int | tuple):
        hidden = (values == np.asarray(key)).all(-1)
        colours.putalpha(Image.fromarray(np.where(hidden, 0, 255).astype(np.uint8)))
    return colours


def _grey_channel(image: Image.Image, box: Box) -> tuple[Wide, None]:
    return np.asarray(image.crop(box)).astype(np.uint16)[..., None], None


def _grey_and_alpha(raw: Image.Image, box: Box) -> tuple[Wide, Wide]:
    """`raw` has the four bytes of grey and alpha as its channels."""
    read = np.asarray(raw.crop(box))
    return _joined(read[..., :1], read[..., 1:2]), _joined(read[..., 2], read[..., 3])


def _colour_channels(upper: Image.Image, lower: Image.Image, box: Box) -> tuple[Wide, Wide | None]:
    read = _joined(np.asarray(upper.crop(box)), np.asarray(lower.crop(box)))
    return read[..., :3], read[..., 3] if read.shape[-1] > 3 else None


def _joined(upper: npt.NDArray[np.uint8], lower: npt.NDArray[np.uint8]) -> Wide:
    return np.left_shift(upper, _BYTE, dtype=np.uint16) | lower


def _extrema(image: Image.Image) -> tuple[int, int]:
    """Return the least and the greatest value of the colours."""
    colours = image.getextrema()[:3]
    return min(int(low) for low, _ in colours), max(int(high) for _, high in colours)  # type: ignore[misc]


def _reopened(png: bytes, rawmode: str) -> Image.Image:
    """Return the pixels of a PNG read as another layout of the same bytes: RGB;16L takes the lower ones."""
    image = Image.open(BytesIO(png), formats=["PNG"])
    assert isinstance(image, ImageFile.ImageFile)
    image.tile = [tile._replace(args=rawmode) for tile in image.tile]
    image.load()
    return image
