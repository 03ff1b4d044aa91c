"""Layout of an npz: arrays of inputs and labels by their names, vectors or pictures by their axes.

Names may say a split (`x_train`, `test_images`); without a request for one, arrays without a split are read, or else
those of the training split. Arrays that may be read in two ways are refused with the candidates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.data.errors import DatasetFileError, FileWarning, shown
from models.data.npz_arrays import NpzArray, NpzArrays
from models.inputs.image import MAX_PIXELS
from models.inputs.raw import MAX_VECTOR

_IMAGE_NAMES = frozenset(("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos"))
_VECTOR_NAMES = frozenset(("embedding", "embeddings", "feature", "features", "vector", "vectors"))
_ANY_NAMES = frozenset(("x", "data", "input", "inputs", "samples"))
_INPUT_NAMES = _IMAGE_NAMES | _VECTOR_NAMES | _ANY_NAMES
_LABEL_NAMES = frozenset(("label", "labels", "y", "target", "targets", "class"))
_CLASS_NAMES = ("class_name", "class_names", "label_names", "target_names", "classes")
_SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
_SPLIT = "|".join(_SPLITS)
_NAME = re.compile(rf"(?:({_SPLIT})_)?(.+?)(?:_({_SPLIT}))?")
_GRAY, _COLOUR = 1, 3
_CANDIDATES = 20
_IMAGE_AXES = "[n, height, width], [n, height, width, 1 or 3] or [n, 1 or 3, height, width]"


@dataclass(frozen=True)
class NpzLayout:
    """Use of the arrays of a file."""

    inputs: str
    labels: str
    class_names: str | None
    """Array of the names to which whole numbers as labels are positions."""
    kind: Literal["image", "vector"]
    channels_first: bool
    left_out: tuple[str, ...]
    warnings: tuple[FileWarning, ...]

    def input_shape(self, array: NpzArray) -> tuple[int, ...]:
        """Return [height, width] of pictures, [d] of vectors."""
        if self.kind == "vector":
            return array.shape[1:]
        return array.shape[2:4] if self.channels_first else array.shape[1:3]


def find_layout(arrays: NpzArrays, split: str | None = None, label: str | None = None) -> NpzLayout:
    """Choose the arrays by their names and shapes.

    Raises `DatasetFileError`: npz_layout and unknown_label_column with the candidates, npz_dtype, npz_shape.
    """
    inputs, labels = _chosen_arrays(arrays, split, label)
    kind, channels_first = _kind(inputs, arrays[inputs])
    class_names = next((name for name in _CLASS_NAMES if _is_class_names(name, arrays)), None)
    used = {inputs, labels, class_names}
    left_out = tuple(name for name in arrays.by_name if name not in used)
    warnings = []
    if left_out:
        names = tuple(shown(name) for name in left_out[:_CANDIDATES])
        warnings.append(FileWarning("npz_left_out", "These arrays are not read.", len(left_out), names))
    if kind == "image" and (channels_first or _parts(inputs)[1] not in _IMAGE_NAMES):
        order = "channels first" if channels_first else "rows first"
        detail = f"{shown(inputs)} {list(arrays[inputs].shape)} is read as pictures, {order}."
        warnings.append(FileWarning("npz_pictures", detail, arrays[inputs].shape[0]))
    return NpzLayout(inputs, labels, class_names, kind, channels_first, left_out, tuple(warnings))


def _parts(name: str) -> tuple[str | None, str]:
    """Return the split that a name says, and the rest of it in lower case."""
    match = _NAME.fullmatch(name.lower())
    if match is None:
        return None, name.lower()
    before, base, after = match.groups()
    return _SPLITS.get(before or after or ""), base


def _chosen_arrays(arrays: NpzArrays, split: str | None, label: str | None) -> tuple[str, str]:
    """Return the names of the arrays of inputs and of labels."""
    parts = {name: _parts(name) for name in arrays.by_name}
    if label is not None:
        if label not in parts:
            detail = f"The file has no such array: {shown(label)!r}; it holds {_listed(list(parts))}."
            raise DatasetFileError("unknown_label_column", detail, "label")
        return _inputs_for(arrays, parts, label), label
    wanted = _SPLITS.get((split or "").lower(), split)
    others = {part[0] for part in parts.values()} - {None, "train"}
    splits = [wanted] if split else [None, "train", *(others if len(others) == 1 else ())]
    for chosen in splits:
        names = [name for name, part in parts.items() if part[0] == chosen]
        inputs = [name for name in names if parts[name][1] in _INPUT_NAMES]
        labels = [name for name in names if parts[name][1] in _LABEL_NAMES]
        if inputs and labels:
            return _only(inputs, "inputs"), _only(labels, "labels")
    prefix = f"{split}_" if split else ""
    detail = (
        f"The file needs {prefix}labels (label, y or target) and {prefix}inputs (image, x, embedding or data); "
        f"it holds {_listed(list(parts)) or 'no array'}. Choose the labels with the option label."
    )
    raise DatasetFileError("npz_layout", detail)


def _inputs_for(arrays: NpzArrays, parts: dict[str, tuple[str | None, str]], label: str) -> str:
    """Return the inputs that belong to chosen labels: by their name, or the only array of as many rows."""
    others = [name for name in parts if name != label and parts[name][0] == parts[label][0]]
    named = [name for name in others if parts[name][1] in _INPUT_NAMES]
    if named:
        return _only(named, "inputs")
    count = arrays[label].shape[:1]
    fitting = [name for name in others if len(arrays[name].shape) > 1 and arrays[name].shape[:1] == count]
    if not fitting:
        detail = f"The file has no inputs for these labels; it holds {_listed(list(parts))}."
        raise DatasetFileError("npz_layout", detail)
    return _only(fitting, "inputs")


def _only(names: Sequence[str], role: str) -> str:
    if len(names) == 1:
        return names[0]
    advice = "choose one with the option label" if role == "labels" else "leave one of them out of the file"
    detail = f"Several arrays may be the {role}: {_listed(names)}; {advice}."
    raise DatasetFileError("npz_layout", detail)


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(shown(name) for name in names[:_CANDIDATES])
    return f"{listed} and {len(names) - _CANDIDATES} more" if len(names) > _CANDIDATES else listed


def _is_class_names(name: str, arrays: NpzArrays) -> bool:
    """Return True for `class_name`, and for arrays of texts with a name to the same effect."""
    if name not in arrays.by_name:
        return False
    array = arrays[name]
    return name == _CLASS_NAMES[0] or (len(array.shape) == 1 and array.dtype.kind in "US")


def _kind(name: str, array: NpzArray) -> tuple[Literal["image", "vector"], bool]:
    """Return the kind of the inputs, and True if pictures have their channels first."""
    base, axes = _parts(name)[1], len(array.shape)
    image = base in _IMAGE_NAMES or (base not in _VECTOR_NAMES and axes > 2)
    if array.dtype.kind not in "fiub":
        detail = f"{'Pictures' if image else 'Vectors'} are arrays of real numbers."
        raise DatasetFileError("npz_dtype", detail, array.where)
    if not image:
        if axes != 2 or not 0 < array.shape[1] <= MAX_VECTOR:
            raise array.wrong_shape(f"axes [n, d] with d up to {MAX_VECTOR}")
        return "vector", False
    channels_first = _channels_first(base, array)
    height, width = array.shape[2:4] if channels_first else array.shape[1:3]
    if not 0 < height * width <= MAX_PIXELS:
        raise array.wrong_shape(f"1 to {MAX_PIXELS} pixels a picture")
    return "image", channels_first


def _channels_first(base: str, array: NpzArray) -> bool:
    """Tell the axes of pictures apart. Raises `DatasetFileError` npz_shape if they may be either."""
    shape = array.shape
    channels = (_GRAY, _COLOUR)
    if len(shape) == 3:
        if base not in _IMAGE_NAMES and (shape[1] in channels or shape[2] in channels):
            raise array.wrong_shape(
                f"a name such as image if it holds pictures {_IMAGE_AXES}, or axes [n, d]"
            )
        return False
    if len(shape) != 4 or (shape[1] not in channels and shape[3] not in channels):
        raise array.wrong_shape(f"axes {_IMAGE_AXES}")
    if shape[1] in channels and shape[3] in channels:
        raise array.wrong_shape(f"axes of which only one can be the channels: {_IMAGE_AXES}")
    return shape[1] in channels
