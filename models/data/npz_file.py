"""An npz of labelled arrays, named as `npz_layout` knows them: pictures or vectors, and a label for each."""

from __future__ import annotations

from dataclasses import dataclass
from io import BufferedIOBase

import numpy as np
import numpy.typing as npt
import torch

from models.data.dataset import ClassDataset
from models.data.errors import (
    MAX_NAMES,
    READ_DEFAULTS,
    DatasetFileError,
    FileWarning,
    Reading,
    ReadOptions,
    Summary,
    check_classes,
    check_examples,
    label,
    shown,
    summary,
)
from models.data.npz_arrays import NpzArrays
from models.data.npz_layout import NpzLayout, find_layout

_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_LABEL = 2.0**53
_BRIGHT = 128
"""Fractions up to a number below this one are no pictures of 0 to 255 for sure."""


@dataclass(frozen=True)
class _Range:
    """Range of an array's numbers."""

    low: float
    high: float
    whole: bool

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


class _Npz:
    """The inputs and labels of a file."""

    def __init__(self, file: BufferedIOBase, split: str | None, options: ReadOptions) -> None:
        self.arrays = NpzArrays(file)
        self.layout: NpzLayout = find_layout(self.arrays, split, options.label)
        self.inputs = self.arrays[self.layout.inputs]
        self.warnings = list(self.layout.warnings)

    def check_inputs(self) -> tuple[tuple[int, ...], float]:
        """Return the shape of one input, and the factor that makes its numbers pixels of 0 to 255.

        Raises `DatasetFileError`: not_finite, npz_values.
        """
        check_examples(self.inputs.shape[0])
        low, high, whole = np.inf, -np.inf, True
        pictures = self.layout.kind == "image"
        for values in self.arrays.values(self.layout.inputs):
            if not _fits(values):
                detail = "The array holds numbers that are not finite, or too large for 32 bits."
                raise DatasetFileError("not_finite", detail, self.inputs.where)
            if pictures and values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
                whole = whole and (values.dtype.kind != "f" or bool((values == np.rint(values)).all()))
        factor = self._pixel_factor(_Range(low, high, whole)) if pictures and low <= high else 1.0
        return self.layout.input_shape(self.inputs), factor

    def _pixel_factor(self, found: _Range) -> float:
        dtype, where = self.inputs.dtype, self.inputs.where
        if found.low < 0 or found.high > 255 or (1 < found.high < _BRIGHT and not found.whole):
            detail = f"The array holds {found}; pictures hold 0 to 1 or 0 to 255: scale them to one of these."
            raise DatasetFileError("npz_values", detail, where)
        if found.high <= 1 and (dtype.kind in "fb" or found.high == 1):
            detail = f"{shown(self.layout.inputs)} holds {found}, read as pictures of 0 to 1."
            self.warnings.append(FileWarning("npz_scaled", detail, self.inputs.shape[0]))
            return 255.0
        if dtype != np.uint8:
            detail = f"{shown(self.layout.inputs)} holds {found}, read as pictures of 0 to 255."
            self.warnings.append(FileWarning("npz_scaled", detail, self.inputs.shape[0]))
        return 1.0

    def labels(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return class names in the order of their labels, and the class of each example."""
        array, count = self.arrays[self.layout.labels], self.inputs.shape[0]
        # Before labels are sorted, which takes many times their memory.
        check_examples(max((0, count, *array.shape[:1])))
        if array.dtype.kind not in "iuUSfb":
            detail = "Labels are whole numbers, texts or true and false."
            raise DatasetFileError("npz_dtype", detail, array.where)
        values = self.arrays.small(self.layout.labels)
        if len(values) != count:
            detail = f"There are {count} inputs but {len(values)} labels."
            raise DatasetFileError("npz_shape", detail, array.where)
        if array.dtype.kind == "f":
            values = _whole_numbers(values, array.where)
        present, index = np.unique(values, return_inverse=True)
        check_classes(len(present))
        if values.dtype.kind in "US" or self.layout.class_names is None:
            names = [label(text, array.where) for text in _texts(present, array.where)]
        else:
            names = self._given(present.astype(np.int64), self.layout.class_names)
        if len(set(names)) < len(names):
            raise DatasetFileError("duplicate_label", "Two classes have the same name.", array.where)
        if array.dtype.kind in "Sfb" or len(array.shape) > 1:
            detail = (
                f"{shown(self.layout.labels)} ({array.dtype}, {list(array.shape)}) is read as class labels."
            )
            self.warnings.append(FileWarning("npz_labels_converted", detail, len(values), tuple(names[:5])))
        return names, index.astype(np.int64).reshape(-1)

    def _given(self, present: npt.NDArray[np.int64], class_names: str) -> list[str]:
        where = self.arrays[class_names].where
        given = self.arrays.small(class_names)
        if given.dtype.kind not in "US":
            raise DatasetFileError("npz_dtype", "Class names are texts.", where)
        if int(present.min(initial=0)) < 0 or int(present.max(initial=0)) >= len(given):
            detail = f"There are {len(given)} class names; a label is beyond them."
            raise DatasetFileError("npz_labels", detail, where, len(given))
        return [label(text, where) for text in _texts(given[present], where)]


def inspect(file: BufferedIOBase, split: str | None = None, options: ReadOptions = READ_DEFAULTS) -> Summary:
    """Read every number, some at a time. Raises `DatasetFileError`."""
    npz = _Npz(file, split, options)
    names, labels = npz.labels()
    shape, _ = npz.check_inputs()
    counts = np.bincount(labels, minlength=len(names)).tolist()
    layout = npz.layout
    left_out = tuple(shown(name) for name in layout.left_out[:MAX_NAMES])
    reading = Reading(shown(layout.labels), (shown(layout.inputs),), left_out)
    return summary(layout.kind, shape, dict(zip(names, counts, strict=True)), tuple(npz.warnings), reading)


def load(
    file: BufferedIOBase, source: str, split: str | None = None, options: ReadOptions = READ_DEFAULTS
) -> ClassDataset:
    """Load vectors as float32 [n, d], pictures as uint8 [n, height, width] or [n, height, width, channels].

    Raises `DatasetFileError`.
    """
    inspect(file, split, options)
    npz = _Npz(file, split, options)
    names, labels = npz.labels()
    _, factor = npz.check_inputs()
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        values = arrays[npz.layout.inputs]
    if npz.layout.kind == "image":
        inputs = torch.from_numpy(_pixels(values, factor, channels_first=npz.layout.channels_first))
    else:
        inputs = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    domains = torch.zeros(len(names), dtype=torch.long)
    return ClassDataset(source, inputs, torch.from_numpy(labels), tuple(names), domains)


def _pixels(values: npt.NDArray[np.generic], factor: float, *, channels_first: bool) -> npt.NDArray[np.uint8]:
    if channels_first:
        values = values.transpose(0, 2, 3, 1)
    if values.dtype != np.uint8 or factor != 1:
        pixels = np.empty(values.shape, np.uint8)
        # One at a time: a copy of all in 64 bits takes eight times their memory.
        for index, value in enumerate(values):
            pixels[index] = np.rint(value.astype(np.float64) * factor)
        return pixels
    return np.ascontiguousarray(values)


def _whole_numbers(values: npt.NDArray[np.generic], where: str) -> npt.NDArray[np.int64]:
    """Return labels that were saved as floats. Raises `DatasetFileError` npz_dtype."""
    numbers = np.asarray(values, np.float64)
    if not bool((np.abs(numbers) <= _LARGEST_LABEL).all()) or not bool((numbers == np.rint(numbers)).all()):
        detail = (
            "Labels are whole numbers or texts; the array holds fractions or numbers that are not finite."
        )
        raise DatasetFileError("npz_dtype", detail, where)
    return numbers.astype(np.int64)


def _texts(values: npt.NDArray[np.generic], where: str) -> list[str]:
    if values.dtype.kind != "S":
        return [str(value) for value in values]
    try:
        return [bytes(value).decode() for value in values]
    except UnicodeDecodeError as error:
        raise DatasetFileError("npz_labels", "A text is not UTF-8.", where) from error


def _fits(values: npt.NDArray[np.generic]) -> bool:
    """Return True if all numbers are finite as float32; the cast itself would make large ones infinite."""
    if not np.issubdtype(values.dtype, np.floating):
        return True
    return bool(np.isfinite(values).all()) and (
        values.itemsize <= 4 or bool((np.abs(values) <= _LARGEST).all())
    )
