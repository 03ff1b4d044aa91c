"""PIL images to PNG files that keep what they show; PIL itself is not imported.

Modes of more than 8 bits become grey of 16, of which the server shows the bits in use.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

from hyperserve.errors import InvalidArgumentError

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_NEAREST_MODE = {"PA": "RGBA", "RGBa": "RGBA", "La": "LA"}
_ORIENTATION = 0x0112
_BOX = 4
"""Resampling filter that averages."""
_EIGHT_BITS, _SIXTEEN_BITS = 255, 65_535
_LEAST_RANGE = 16
"""Numbers up to 255 that differ by less are no 8-bit picture, but one on another scale."""


def to_png(image: Any, where: str) -> bytes:
    """Return a PNG of an image, with its EXIF orientation alone. Raises InvalidArgumentError."""
    exif = image.getexif()
    kept_exif = type(exif)()
    if _ORIENTATION in exif:  # the same file sent by its path keeps its orientation
        kept_exif[_ORIENTATION] = exif[_ORIENTATION]
    buffer = BytesIO()
    _in_png_mode(image, where).save(buffer, "PNG", exif=kept_exif)
    return buffer.getvalue()


def _in_png_mode(image: Any, where: str) -> Any:
    if image.mode in _PNG_MODES:
        return image
    if image.mode == "F":
        return _from_floats(image, where)
    if image.mode.startswith("I"):
        return _from_integers(image.convert("I"))
    return image.convert(_NEAREST_MODE.get(image.mode, "RGB"))


def _from_integers(image: Any) -> Any:
    low, high = image.getextrema()
    if low >= 0 and high <= _SIXTEEN_BITS:
        return image.convert("I;16")
    return _stretched(image.convert("F"), low, high)


def _from_floats(image: Any, where: str) -> Any:
    """Return grey: numbers of an 8-bit picture stay, those from 0 to 1 become 16 bits, others are stretched."""
    # The mean shows one infinite number among any others.
    if not math.isfinite(image.resize((1, 1), _BOX).getpixel((0, 0))):
        raise InvalidArgumentError(f"{where}: the image holds numbers that are not finite")
    low, high = image.getextrema()
    if low >= 0 and high <= _EIGHT_BITS and high - low >= _LEAST_RANGE:
        return image.convert("L")
    return _stretched(image, 0, 1) if low >= 0 and high <= 1 else _stretched(image, low, high)


def _stretched(image: Any, low: float, high: float) -> Any:
    """Return grey of 16 bits, in which `low` is black and `high` is white."""
    scale = _SIXTEEN_BITS / (high - low) if high > low else 0.0
    # PIL takes a function of numbers of this form only.
    return image.point(lambda value: value * scale + (-low * scale)).convert("I").convert("I;16")
