"""Conversion of user data (paths, images, arrays, lists of numbers) to JSON inputs.

PIL images, numpy arrays, torch tensors and tables (`hyperserve.tables`) are recognised by their methods; none of these
packages is imported.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from hyperserve import labels, pil_images, png, tables
from hyperserve.errors import ArgumentTypeError, InvalidArgumentError
from hyperserve.types import TaskKind

Group = TypeVar("Group")

Wire = dict[str, Any]
"""One input in JSON: {"image": base64}, {"vector": [...]} or {"text": "..."}."""

Input = Any
"""An image as a path, bytes, an open file, a PIL image or an array; a vector of numbers; or a `Wire` mapping."""

Target = Any
"""The value of an example in a regression task: a number, a list of numbers or an array."""

Label = str | int
"""A class label. A whole number is sent as its decimal text, and so it is answered."""

Support = Mapping[Any, Iterable[Input]] | Iterable[tuple[Input, Label | Target]]
"""Examples by label, or (input, label) pairs in order, or (input, target) pairs for regression."""


def support(examples: Support, kind: TaskKind | None = None) -> dict[str, list[Wire]] | list[Wire]:
    """Return a support set in JSON form. In pairs whole numbers are labels unless `kind` is regression.

    Raises InvalidArgumentError naming the class and the example.
    """
    if isinstance(examples, Mapping):
        return {
            label: _inputs(group, f"class {given!r}, example") for label, given, group in by_label(examples)
        }
    if tables.is_foreign(examples):
        raise ArgumentTypeError(
            f"support: {type(examples).__name__} has no labels; give rows by class, {{label: rows}}, or pairs, "
            "such as zip(table.to_numpy(), labels)"
        )
    _require_list(examples, "support")
    pairs = [_split(pair, number) for number, pair in enumerate(examples)]
    if pairs and kind != "regression" and _is_label(pairs[0][1]):
        return [_with_label(value, label_text(right), number) for number, (value, right) in enumerate(pairs)]
    return [_with_target(value, right, number) for number, (value, right) in enumerate(pairs)]


def by_label(examples: Mapping[Any, Group]) -> list[tuple[str, object, Group]]:
    """Return (label, key, examples) of each class. Raises InvalidArgumentError for two keys of one label."""
    found: dict[str, object] = {}
    for key in examples:
        label = labels.normal(label_text(key))
        if label in found:
            raise InvalidArgumentError(f"class {key!r}: class {found[label]!r} has the same label, {label!r}")
        found[label] = key
    return [(label, key, examples[key]) for label, key in found.items()]


def label_text(label: object) -> str:
    """Return a label as it is sent: a whole number is its decimal text. Raises ArgumentTypeError."""
    text = label if isinstance(label, str) else labels.from_number(_to_python(label, "label"))
    if text is None:
        raise ArgumentTypeError(
            f"class {label!r}: a label must be a string or a whole number, not {type(label).__name__}"
        )
    return str(text)


def label_or_target(value: Label | Target, where: str = "answer", kind: TaskKind | None = None) -> Wire:
    """Return {"label": ...} for a string and {"target": [...]} for numbers.

    A whole number is a label if `kind` is classification. Raises InvalidArgumentError whose message starts with
    `where`.
    """
    if isinstance(value, str) or (kind == "classification" and _is_label(value)):
        return {"label": label_text(value)}
    return {"target": target(value, where)}


def target(value: Target, where: str = "target") -> list[float]:
    """Return a target in JSON form; a bare number becomes a vector of one. Raises InvalidArgumentError."""
    value = value if tables.is_table(value) else _to_python(value, where)
    if _is_number(value):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview):
        raise ArgumentTypeError(
            f"{where}: a target must be a number or a list of numbers, not {type(value).__name__}"
        )
    return _numbers(value, where)


def targets(values: Iterable[Target]) -> list[list[float]]:
    """Return the targets of queries in JSON form, the rows of a table. Raises InvalidArgumentError."""
    return [target(value, f"target {number}") for number, value in enumerate(_rows(values, "targets"))]


def queries(inputs: Iterable[Input], where: str = "query") -> list[Wire]:
    """Return queries in JSON form, the rows of a table; a bare number becomes a vector of one.

    Raises InvalidArgumentError whose message starts with `where` and the position.
    """
    rows = _rows(inputs, where.removesuffix(", example"))
    return [encode(_scalar_to_vector(value), f"{where} {number}") for number, value in enumerate(rows)]


def encode(value: Input, where: str = "input") -> Wire:
    """Return one input in JSON form.

    1-d arrays, series and sequences of numbers are vectors; uint8 arrays [height, width] or [height, width, 1-4] are
    images. Raises InvalidArgumentError whose message starts with `where`.
    """
    if isinstance(value, str | Path):
        return _image(_read(value, where), where)
    if isinstance(value, bytes | bytearray | memoryview):
        return _image(bytes(value), where)
    if isinstance(value, Mapping):
        return _wire(value, where)
    if hasattr(value, "getexif") and hasattr(value, "save"):
        if not all(value.size):
            raise InvalidArgumentError(f"{where}: the image has no pixels: {value.size[0]} x {value.size[1]}")
        return _image(pil_images.to_png(value, where), where)
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = _tensor_to_array(value)
    if tables.is_table(value):
        raise ArgumentTypeError(
            f"{where}: {type(value).__name__} is a table, not one input; pass it in place of the list of inputs"
        )
    if tables.is_foreign(value):
        value = tables.to_array(value, where)
    if hasattr(value, "dtype") and hasattr(value, "tobytes") and getattr(value, "ndim", False):
        return _encode_array(value, where)
    if hasattr(value, "read"):
        return _image(
            _opened(value.read(), where), where, "read: the file is empty or at its end; rewind it by seek(0)"
        )
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


def _to_python(value: Any, where: str) -> Any:
    """Return an array, series or tensor as a list of numbers or a single number, anything else as it is."""
    if tables.is_foreign(value):
        value = tables.to_array(value, where)
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        value = _tensor_to_array(value)
    return value.tolist() if hasattr(value, "dtype") and hasattr(value, "tolist") else value


def _scalar_to_vector(value: Input) -> Input:
    # A loop over a 1-d tensor yields arrays without axes.
    number = _to_python(value, "") if getattr(value, "ndim", None) == 0 else value
    return [number] if _is_number(number) else value


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _inputs(values: Iterable[Input], where: str) -> list[Wire]:
    rows = _rows(values, where.removesuffix(", example"))
    return [encode(value, f"{where} {number}") for number, value in enumerate(rows)]


def _rows(values: Iterable[Any], where: str) -> Iterable[Any]:
    """Return the rows of a table or a foreign array, and a list or an array as it is."""
    if not tables.is_foreign(values):
        _require_list(values, where)
        return values
    array = tables.to_array(values, where)
    if not array.ndim:
        raise ArgumentTypeError(f"{where}: expected a list of inputs, not a single {type(values).__name__}")
    rows: Iterable[Any] = array
    return rows


def _require_list(values: object, where: str) -> None:
    """Reject a single input in place of a list: strings, bytes, files, images and image arrays are iterable too."""
    shape = tuple(getattr(values, "shape", ()))
    is_uint8 = str(getattr(values, "dtype", "")).endswith("uint8")
    one_image = is_uint8 and (len(shape) < 3 or (len(shape) == 3 and shape[-1] in png.COLOUR_TYPES))
    single = isinstance(values, str | bytes | bytearray | memoryview | Path | Mapping | type)
    one_file = hasattr(values, "getexif") or hasattr(values, "read")
    if isinstance(values, Set):
        raise ArgumentTypeError(f"{where}: a {type(values).__name__} has no order; give a list of inputs")
    if single or one_image or one_file or not isinstance(values, Iterable):
        raise ArgumentTypeError(f"{where}: expected a list of inputs, not a single {type(values).__name__}")


def _is_label(value: object) -> bool:
    """Return True for texts and whole numbers, and for truth values, which are refused as labels."""
    python = value if isinstance(value, str) else _to_python(value, "label")
    return isinstance(python, str | Integral)


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


def _image(data: bytes, where: str, reason: str = "do not make an image") -> Wire:
    if not data:
        raise InvalidArgumentError(f"{where}: 0 bytes {reason}")
    return {"image": base64.b64encode(data).decode("ascii")}


def _read(path: str | Path, where: str) -> bytes:
    file = Path(path)
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        hint = 'a string is read as the path of an image; use {"text": "..."} to send text'
        raise InvalidArgumentError(f"{where}: cannot read {str(path)[:80]!r}: {reason} ({hint})") from error
    if not data:
        raise InvalidArgumentError(f"{where}: the file {str(path)[:80]!r} is empty (0 bytes)")
    return data


def _opened(data: object, where: str) -> bytes:
    if not isinstance(data, bytes):
        raise ArgumentTypeError(f"{where}: open the file in binary mode, 'rb'")
    return data


def _wire(value: Mapping[str, Any], where: str) -> Wire:
    match dict(value):
        case {"image": ""}:
            raise InvalidArgumentError(f"{where}: 0 bytes do not make an image")
        case {"image": str()} | {"text": str()} as wire if len(wire) == 1:
            return wire
        case {"vector": [*values], **rest} if not rest:
            return {"vector": _numbers(values, where)}
    raise InvalidArgumentError(
        f'{where}: a mapping must be {{"image": base64}}, {{"text": "..."}} or {{"vector": [...]}}'
    )


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
        return _image(png.encode(array.tobytes(), width, height, *channels or [1]), where)
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
