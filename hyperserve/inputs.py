"""Conversion of user data (paths, images, arrays, lists of numbers) to JSON inputs.

PIL images, numpy arrays and torch tensors are recognised by their methods; none of these packages is imported.
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
from hyperserve.errors import ArgumentTypeError, InvalidArgumentError

Wire = dict[str, Any]
"""One input in JSON: {"image": base64}, {"vector": [...]} or {"text": "..."}."""

Input = Any
"""An image as a path, bytes, an open file, a PIL image or an array; a vector of numbers; or a `Wire` mapping."""

Target = Any
"""The value of an example in a regression task: a number, a list of numbers or an array."""

Support = Mapping[str, Iterable[Input]] | Iterable[tuple[Input, str | Target]]
"""Examples by class, or (input, label) pairs in order, or (input, target) pairs for regression."""

_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_NEAREST_MODE = {"I": "I;16", "PA": "RGBA", "RGBa": "RGBA"}
_ORIENTATION = 0x0112


def support(examples: Support) -> dict[str, list[Wire]] | list[Wire]:
    """Return a support set in JSON form. Raises InvalidArgumentError naming the class and the example."""
    if isinstance(examples, Mapping):
        return {
            _label(label): _inputs(group, f"class {label!r}, example") for label, group in examples.items()
        }
    _require_list(examples, "support")
    pairs = [_split(pair, number) for number, pair in enumerate(examples)]
    if pairs and isinstance(pairs[0][1], str):
        return [_with_label(value, _label(right), number) for number, (value, right) in enumerate(pairs)]
    return [_with_target(value, right, number) for number, (value, right) in enumerate(pairs)]


def label_or_target(value: str | Target, where: str = "answer") -> Wire:
    """Return {"label": ...} for a string and {"target": [...]} for numbers.

    Raises InvalidArgumentError whose message starts with `where`.
    """
    if isinstance(value, str):
        return {"label": value}
    return {"target": target(value, where)}


def target(value: Target, where: str = "target") -> list[float]:
    """Return a target in JSON form; a bare number becomes a vector of one. Raises InvalidArgumentError."""
    value = _to_python(value)
    if _is_number(value):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview):
        raise ArgumentTypeError(
            f"{where}: a target must be a number or a list of numbers, not {type(value).__name__}"
        )
    return _numbers(value, where)


def queries(inputs: Iterable[Input], where: str = "query") -> list[Wire]:
    """Return queries in JSON form; a bare number becomes a vector of one.

    Raises InvalidArgumentError whose message starts with `where` and the position.
    """
    _require_list(inputs, where.removesuffix(", example"))
    return [encode(_scalar_to_vector(value), f"{where} {number}") for number, value in enumerate(inputs)]


def encode(value: Input, where: str = "input") -> Wire:
    """Return one input in JSON form.

    1-d arrays and sequences of numbers are vectors; uint8 arrays [height, width] or [height, width, 1-4] are
    images. Raises InvalidArgumentError whose message starts with `where`.
    """
    if isinstance(value, str | Path):
        return _image(_read(value, where))
    if isinstance(value, bytes | bytearray | memoryview):
        return _image(bytes(value))
    if isinstance(value, Mapping):
        return _wire(value, where)
    if hasattr(value, "getexif") and hasattr(value, "save"):
        return _image(_pil_to_png(value))
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = _tensor_to_array(value)
    if hasattr(value, "dtype") and hasattr(value, "tobytes") and getattr(value, "ndim", False):
        return _encode_array(value, where)
    if hasattr(value, "read"):
        return _image(_opened(value.read(), where))
    if isinstance(value, Sequence):
        return {"vector": _numbers(value, where)}
    raise ArgumentTypeError(
        f"{where}: {type(value).__name__} is not an input; give a path, image bytes, a PIL image, "
        "an array or a list of numbers"
    )


def _tensor_to_array(tensor: Any) -> Any:
    """Return a torch tensor as a numpy array."""
    tensor = tensor.detach().cpu()
    # numpy has no bfloat16.
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def _to_python(value: Any) -> Any:
    """Return an array or tensor as a list of numbers or a single number, anything else as it is."""
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = _tensor_to_array(value)
    return value.tolist() if hasattr(value, "dtype") and hasattr(value, "tolist") else value


def _scalar_to_vector(value: Input) -> Input:
    # A loop over a 1-d tensor yields arrays without axes.
    number = _to_python(value) if getattr(value, "ndim", None) == 0 else value
    return [number] if _is_number(number) else value


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _inputs(values: Iterable[Input], where: str) -> list[Wire]:
    _require_list(values, where.removesuffix(", example"))
    return [encode(value, f"{where} {number}") for number, value in enumerate(values)]


def _require_list(values: object, where: str) -> None:
    """Reject a single input in place of a list: strings, bytes, images and image arrays are iterable too."""
    shape = tuple(getattr(values, "shape", ()))
    is_uint8 = str(getattr(values, "dtype", "")).endswith("uint8")
    one_image = is_uint8 and (len(shape) < 3 or (len(shape) == 3 and shape[-1] in png.COLOUR_TYPES))
    single = isinstance(values, str | bytes | bytearray | memoryview | Path | Mapping)
    if single or one_image or hasattr(values, "getexif") or not isinstance(values, Iterable):
        raise ArgumentTypeError(f"{where}: expected a list of inputs, not a single {type(values).__name__}")


def _label(label: object) -> str:
    if not isinstance(label, str):
        raise ArgumentTypeError(f"class {label!r}: a label must be a string, not {type(label).__name__}")
    return label


def _split(pair: tuple[Input, str | Target], number: int) -> tuple[Input, str | Target]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ArgumentTypeError(
            f"support example {number}: expected an (input, label) or an (input, target) pair"
        )
    value, right = pair
    return value, right


def _with_label(value: Input, label: str, number: int) -> Wire:
    return {"input": encode(value, f"support example {number} ({label!r})"), "label": label}


def _with_target(value: Input, right: Target, number: int) -> Wire:
    where = f"support example {number}"
    return {"input": encode(_scalar_to_vector(value), where), "target": target(right, where)}


def _image(data: bytes) -> Wire:
    return {"image": base64.b64encode(data).decode("ascii")}


def _read(path: str | Path, where: str) -> bytes:
    file = Path(path)
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        hint = 'a string is read as the path of an image; use {"text": "..."} to send text'
        raise InvalidArgumentError(f"{where}: cannot read {str(path)[:80]!r}: {reason} ({hint})") from error


def _opened(data: object, where: str) -> bytes:
    if not isinstance(data, bytes):
        raise ArgumentTypeError(f"{where}: open the file in binary mode, 'rb'")
    return data


def _wire(value: Mapping[str, Any], where: str) -> Wire:
    match dict(value):
        case {"image": str()} | {"text": str()} as wire if len(wire) == 1:
            return wire
        case {"vector": [*values], **rest} if not rest:
            return {"vector": _numbers(values, where)}
    raise InvalidArgumentError(
        f'{where}: a mapping must be {{"image": base64}}, {{"text": "..."}} or {{"vector": [...]}}'
    )


def _pil_to_png(image: Any) -> bytes:
    exif = image.getexif()
    kept_exif = type(exif)()
    if _ORIENTATION in exif:  # the same file sent by its path keeps its orientation
        kept_exif[_ORIENTATION] = exif[_ORIENTATION]
    if image.mode not in _PNG_MODES:
        image = image.convert(_NEAREST_MODE.get(image.mode, "RGB"))
    buffer = BytesIO()
    image.save(buffer, "PNG", exif=kept_exif)
    return buffer.getvalue()


def _encode_array(array: Any, where: str) -> Wire:
    if array.ndim == 1:
        return {"vector": _numbers(array.tolist(), where)}
    shape = tuple(array.shape)
    if array.ndim > 3 or (array.ndim == 3 and shape[2] not in png.COLOUR_TYPES):
        raise InvalidArgumentError(
            f"{where}: an image array must be [height, width] or [height, width, 1-4], not {shape}"
        )
    if str(array.dtype) != "uint8":
        raise ArgumentTypeError(f"{where}: an image array must hold uint8 values of 0-255, not {array.dtype}")
    height, width, *channels = shape
    try:
        return _image(png.encode(array.tobytes(), width, height, *channels or [1]))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{where}: {error}") from error


def _numbers(values: Sequence[Any], where: str) -> list[float]:
    return [_number(value, where, position) for position, value in enumerate(values)]


def _number(value: Any, where: str, position: int) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(
            f"{where}: a vector must hold numbers, not {type(value).__name__} at {position}"
        )
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest float
        number = math.inf
    if not math.isfinite(number):
        raise InvalidArgumentError(f"{where}: {number} at {position} is not finite")
    return number
