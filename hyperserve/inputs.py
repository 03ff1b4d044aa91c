"""What users hold (paths, images, arrays, lists of numbers) as inputs of the wire.

PIL images, numpy arrays and torch tensors are recognised by what they can do: none of them is imported.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from numbers import Real
from pathlib import Path
from typing import Any

from hyperserve import png

Wire = dict[str, Any]
"""One input as the server reads it: {"image": base64}, {"vector": [...]} or {"text": "..."}."""

Input = Any
"""A path, bytes or an open file of an image, a PIL image, an array, numbers, or an input of the wire."""

Target = Any
"""A vector of numbers that an input is answered by in a regression task: numbers, an array, or one number."""

Support = Mapping[str, Iterable[Input]] | Iterable[tuple[Input, str | Target]]
"""Examples by class, or (input, label) pairs, which keep their order across classes, or (input, target) pairs."""

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_NEAREST_MODE = {"I": "I;16", "PA": "RGBA", "RGBa": "RGBA"}
_ORIENTATION = 0x0112


def support(examples: Support) -> dict[str, list[Wire]] | list[Wire]:
    """A support set for the wire. Raises TypeError or ValueError naming the class and the example."""
    if isinstance(examples, Mapping):
        return {
            _label(label): _inputs(group, f"class {label!r}, example") for label, group in examples.items()
        }
    _refuse_single(examples, "support")
    pairs = [_split(pair, number) for number, pair in enumerate(examples)]
    if pairs and isinstance(pairs[0][1], str):
        return [_labelled(value, _label(right), number) for number, (value, right) in enumerate(pairs)]
    return [_aimed(value, right, number) for number, (value, right) in enumerate(pairs)]


def answer(right: str | Target, where: str = "answer") -> Wire:
    """What an input is, for the wire: {"label": ...} of a string, {"target": [...]} of numbers.

    Raises TypeError or ValueError whose message starts with `where`.
    """
    if isinstance(right, str):
        return {"label": right}
    return {"target": target(right, where)}


def target(value: Target, where: str = "target") -> list[float]:
    """A target for the wire; a bare number is a vector of one. Raises TypeError or ValueError."""
    value = _plain(value)
    if _is_number(value):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview):
        raise TypeError(f"{where}: a target is a number or a list of numbers, not {type(value).__name__}")
    return _numbers(value, where)


def queries(inputs: Iterable[Input]) -> list[Wire]:
    """Queries for the wire, of which a number is a vector of one. Raises TypeError or ValueError naming the query."""
    _refuse_single(inputs, "query")
    return [encode(_vector(value), f"query {number}") for number, value in enumerate(inputs)]


def encode(value: Input, where: str = "input") -> Wire:
    """One input for the wire.

    1-d arrays and sequences of numbers are vectors; uint8 arrays [height, width] or [height, width, 1-4] are
    images. Raises TypeError or ValueError whose message starts with `where`.
    """
    if isinstance(value, str | Path):
        return _image(_read(value, where))
    if isinstance(value, bytes | bytearray | memoryview):
        return _image(bytes(value))
    if isinstance(value, Mapping):
        return _wire(value, where)
    if hasattr(value, "getexif") and hasattr(value, "save"):
        return _image(_pil(value))
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = _array_of(value)
    if hasattr(value, "dtype") and hasattr(value, "tobytes") and getattr(value, "ndim", False):
        return _array(value, where)
    if hasattr(value, "read"):
        return _image(_opened(value.read(), where))
    if isinstance(value, Sequence):
        return {"vector": _numbers(value, where)}
    raise TypeError(
        f"{where}: {type(value).__name__} is not an input; give a path, image bytes, a PIL image, "
        "an array or a list of numbers"
    )


def _array_of(tensor: Any) -> Any:
    """A torch tensor as a numpy array."""
    tensor = tensor.detach().cpu()
    # numpy has no bfloat16.
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _plain(value: Any) -> Any:
    """An array or a tensor of numbers as a list of them, or as a number."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = _array_of(value)
    return value.tolist() if hasattr(value, "dtype") and hasattr(value, "tolist") else value


def _vector(value: Input) -> Input:
    # What a loop over a tensor gives: an array of no axes.
    number = _plain(value) if getattr(value, "ndim", None) == 0 else value
    return [number] if _is_number(number) else value


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _inputs(values: Iterable[Input], where: str) -> list[Wire]:
    _refuse_single(values, where.removesuffix(", example"))
    return [encode(value, f"{where} {number}") for number, value in enumerate(values)]


def _refuse_single(values: object, where: str) -> None:
    """Strings, bytes, images and image arrays can be iterated over, never to any good."""
    shape = tuple(getattr(values, "shape", ()))
    bytewise = str(getattr(values, "dtype", "")).endswith("uint8")
    one_image = bytewise and (len(shape) < 3 or (len(shape) == 3 and shape[-1] in png.COLOUR_TYPES))
    single = isinstance(values, str | bytes | bytearray | memoryview | Path | Mapping)
    if single or one_image or hasattr(values, "getexif") or not isinstance(values, Iterable):
        raise TypeError(f"{where}: a list of inputs is needed, not one {type(values).__name__}")


def _label(label: object) -> str:
    if not isinstance(label, str):
        raise TypeError(f"class {label!r}: a label is a string, not {type(label).__name__}")
    return label


def _split(pair: tuple[Input, str | Target], number: int) -> tuple[Input, str | Target]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(
            f"support example {number}: an (input, label) pair is needed, or an (input, target) pair"
        )
    value, right = pair
    return value, right


def _labelled(value: Input, label: str, number: int) -> Wire:
    return {"input": encode(value, f"support example {number} ({label!r})"), "label": label}


def _aimed(value: Input, right: Target, number: int) -> Wire:
    where = f"support example {number}"
    return {"input": encode(_vector(value), where), "target": target(right, where)}


def _image(data: bytes) -> Wire:
    return {"image": base64.b64encode(data).decode("ascii")}


def _read(path: str | Path, where: str) -> bytes:
    file = Path(path)
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        hint = 'a string is the path of an image; {"text": "..."} sends a text'
        raise ValueError(f"{where}: cannot read {str(path)[:80]!r}: {reason} ({hint})") from error


def _opened(data: object, where: str) -> bytes:
    if not isinstance(data, bytes):
        raise TypeError(f"{where}: open the file in binary mode ('rb')")
    return data


def _wire(value: Mapping[str, Any], where: str) -> Wire:
    match dict(value):
        case {"image": str()} | {"text": str()} as wire if len(wire) == 1:
            return wire
        case {"vector": [*values], **rest} if not rest:
            return {"vector": _numbers(values, where)}
    raise ValueError(f'{where}: a mapping is {{"image": base64}}, {{"text": "..."}} or {{"vector": [...]}}')


def _pil(image: Any) -> bytes:
    exif = image.getexif()
    kept = type(exif)()
    if _ORIENTATION in exif:  # PNG would lose it, and the file by its path would be read the other way up
        kept[_ORIENTATION] = exif[_ORIENTATION]
    if image.mode not in _PNG_MODES:
        image = image.convert(_NEAREST_MODE.get(image.mode, "RGB"))
    buffer = BytesIO()
    image.save(buffer, "PNG", exif=kept)
    return buffer.getvalue()


def _array(array: Any, where: str) -> Wire:
    if array.ndim == 1:
        return {"vector": _numbers(array.tolist(), where)}
    shape = tuple(array.shape)
    if array.ndim > 3 or (array.ndim == 3 and shape[2] not in png.COLOUR_TYPES):
        raise ValueError(f"{where}: an image array is [height, width] or [height, width, 1-4], not {shape}")
    if str(array.dtype) != "uint8":
        raise TypeError(f"{where}: an image array holds uint8 values of 0-255, not {array.dtype}")
    height, width, *channels = shape
    try:
        return _image(png.encode(array.tobytes(), width, height, *channels or [1]))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _numbers(values: Sequence[Any], where: str) -> list[float]:
    return [_number(value, where, position) for position, value in enumerate(values)]


def _number(value: Any, where: str, position: int) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{where}: a vector holds numbers, not {type(value).__name__} at {position}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest float
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{where}: {number} at {position} is not finite")
    return number
