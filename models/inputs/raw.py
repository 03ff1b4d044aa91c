"""Inputs as they arrive and as they are stored: bytes of an image, a vector, a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from models.errors import ModelError

Kind = Literal["image", "vector", "text"]
Code = Literal[
    "not_an_image",
    "truncated_image",
    "image_too_large",
    "image_too_complex",
    "unsupported_image_format",
    "vector_empty",
    "vector_length",
    "vector_too_long",
    "not_finite",
    "not_a_number",
    "wrong_kind",
    "text_too_long",
]

MAX_VECTOR = 8_192
MAX_TEXT = 8_192
_IMAGE_AXES = 3


class InputError(ModelError, ValueError):
    """An input cannot be used. `limit` is the bound that it passes, if there is one."""

    def __init__(self, code: Code, detail: str, limit: float | None = None) -> None:
        super().__init__(detail)
        self.code: Code = code
        self.detail = detail
        self.limit = limit


@dataclass(frozen=True)
class ImageBytes:
    """An encoded image, not yet looked at."""

    data: bytes
    kind: ClassVar[Kind] = "image"

    def to_bytes(self) -> bytes:
        return self.data


@dataclass(frozen=True, eq=False)
class Vector:
    """Float32 values, 1-d, finite or not: `VectorInput.decode` refuses the others."""

    values: npt.NDArray[np.float32]
    kind: ClassVar[Kind] = "vector"

    @classmethod
    def of(cls, values: Sequence[Any]) -> Vector:
        """Make a vector of JSON numbers; a Boolean is not a number.

        Raises `InputError`: vector_empty, vector_too_long, not_a_number, not_finite.
        """
        if len(values) == 0:
            raise InputError("vector_empty", "A vector needs at least one number.", 1)
        if len(values) > MAX_VECTOR:
            raise InputError("vector_too_long", f"A vector may hold {MAX_VECTOR} numbers.", MAX_VECTOR)
        if not {type(value) for value in values} <= {int, float}:
            raise InputError("not_a_number", "A vector holds numbers only.")
        largest = float(np.finfo(np.float32).max)
        # Compared before the cast: a whole number may be too large for any float, and casts only warn.
        if not all(-largest <= value <= largest for value in values):
            raise InputError("not_finite", "A vector holds finite 32-bit numbers only.", largest)
        return cls(np.asarray(values, dtype=np.float32))

    def to_bytes(self) -> bytes:
        return self.values.astype("<f4").tobytes()


@dataclass(frozen=True)
class Text:
    """A text in Unicode."""

    text: str
    kind: ClassVar[Kind] = "text"

    def to_bytes(self) -> bytes:
        """Return UTF-8. Raises `InputError` text_too_long beyond 8,192 characters."""
        if len(self.text) > MAX_TEXT:
            raise InputError("text_too_long", f"A text may hold {MAX_TEXT} characters.", MAX_TEXT)
        return self.text.encode()


RawInput = ImageBytes | Vector | Text


def raw_from(kind: str, data: bytes) -> RawInput:
    """Invert `to_bytes`. Raises `InputError` wrong_kind for a kind or bytes that it never wrote."""
    if kind == "image":
        return ImageBytes(data)
    if kind == "vector" and len(data) % 4 == 0:
        return Vector(np.frombuffer(data, dtype="<f4").astype(np.float32))
    if kind == "text":
        try:
            return Text(data.decode())
        except UnicodeDecodeError as error:
            raise InputError("wrong_kind", "Stored text is not UTF-8.") from error
    raise InputError("wrong_kind", f"{len(data)} bytes are not an input of kind {kind!r}.")


def is_blank(x: npt.NDArray[np.float32]) -> bool:
    """Return True for a decoded input without content: no ink, a photo of one colour, a vector of zeros."""
    return not x.any() or (x.ndim == _IMAGE_AXES and not np.ptp(x, axis=(1, 2)).any())
