"""An npz of labelled arrays: `image` (uint8), `x` or `embedding` (numbers) with `label`, `class_name` if wanted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from tokenize import TokenError
from zipfile import ZipExtFile, ZipInfo

import numpy as np
import numpy.typing as npt
import torch

from models.data.archive import Archive, chunks, finish
from models.data.dataset import ClassDataset
from models.data.errors import DatasetFileError, Summary, check_classes, check_examples, label, summary
from models.inputs.image import MAX_PIXELS
from models.inputs.raw import MAX_VECTOR

KEYS = ("image", "x", "embedding")
_SUFFIX = ".npy"
_LABEL_BYTES = 256 << 20
_HEADER_BYTES = 64 << 10
"""Version 2 of the format lets a header say that it has up to 4 GB."""
_LAST_CHARACTER = 0x10FFFF
_LARGEST = float(np.finfo(np.float32).max)
_NO_HEADER = (ValueError, SyntaxError, TypeError, TokenError, RecursionError, MemoryError)
"""What numpy raises on headers, which it reads as Python literals."""


@dataclass(frozen=True)
class _Array:
    member: ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


class _Npz:
    """The arrays of an npz by their headers; object arrays, which would be pickles, are refused."""

    def __init__(self, file: BufferedIOBase, split: str | None) -> None:
        self.archive = Archive(file)
        self.prefix = f"{split}_" if split else ""
        self.arrays = {
            member.filename.removesuffix(_SUFFIX): self._header(member) for member in self.archive.files
        }
        name = next((key for key in KEYS if self.prefix + key in self.arrays), None)
        if name is None or f"{self.prefix}label" not in self.arrays:
            wanted = ", ".join(self.prefix + key for key in KEYS)
            raise DatasetFileError("npz_layout", f"The file needs {self.prefix}label and one of {wanted}.")
        self.name = self.prefix + name
        self.inputs = self.arrays[self.name]

    def _header(self, member: ZipInfo) -> _Array:
        if not member.filename.endswith(_SUFFIX) or "/" in member.filename:
            raise DatasetFileError(
                "npz_layout", "An npz holds arrays (.npy) and no folders.", member.filename
            )
        with self.archive.open(member) as stream:
            shape, dtype = _read_header(stream, member)
            if dtype.hasobject:
                detail = "The array holds Python objects (pickle), which are never read."
                raise DatasetFileError("npz_pickle", detail, member.filename)
            if dtype.itemsize == 0 or dtype.subdtype is not None or dtype.names is not None:
                detail = "The array holds neither numbers nor texts."
                raise DatasetFileError("npz_dtype", detail, member.filename)
            if stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                detail = "The array has another size than its header says."
                raise DatasetFileError("archive_damaged", detail, member.filename)
        return _Array(member, shape, dtype)

    def small(self, name: str) -> npt.NDArray[np.generic]:
        """A one-dimensional array, in memory."""
        array = self.arrays[name]
        if len(array.shape) != 1:
            raise _wrong_shape(array, "one axis")
        if array.member.file_size > _LABEL_BYTES:
            detail = f"The array has more than {_LABEL_BYTES} bytes."
            raise DatasetFileError("npz_labels", detail, array.member.filename, _LABEL_BYTES)
        with self.archive.open(array.member) as stream:
            _read_header(stream, array.member)
            data = stream.read(array.member.file_size - stream.tell())
            finish(stream, array.member, stream.tell())
        values = np.frombuffer(data, array.dtype)
        if array.dtype.kind == "U":
            characters = values.view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
            if int(characters.max(initial=0)) > _LAST_CHARACTER:
                raise DatasetFileError("npz_labels", "A text has no valid characters.", array.member.filename)
        return values

    def check_inputs(self) -> tuple[int, ...]:
        """Shape of one input. Raises `DatasetFileError`: npz_dtype, npz_shape, not_finite."""
        array, where = self.inputs, self.inputs.member.filename
        if self.name.endswith("image"):
            if array.dtype != np.uint8:
                raise DatasetFileError("npz_dtype", "Pictures are arrays of uint8.", where)
            if len(array.shape) not in (3, 4) or (len(array.shape) == 4 and array.shape[3] not in (1, 3)):
                raise _wrong_shape(array, "axes [n, height, width] or [n, height, width, 1 or 3]")
            if not 0 < array.shape[1] * array.shape[2] <= MAX_PIXELS:
                raise _wrong_shape(array, f"1 to {MAX_PIXELS} pixels a picture")
        else:
            if array.dtype.kind not in "fiu":
                raise DatasetFileError("npz_dtype", "Vectors are arrays of real numbers.", where)
            if len(array.shape) != 2 or not 0 < array.shape[1] <= MAX_VECTOR:
                raise _wrong_shape(array, f"axes [n, d] with d up to {MAX_VECTOR}")
        check_examples(array.shape[0])
        for values in self._values(array):
            if not _fits(values):
                detail = "The array holds numbers that are not finite, or too large for 32 bits."
                raise DatasetFileError("not_finite", detail, where)
        return array.shape[1:3] if self.name.endswith("image") else array.shape[1:]

    def _values(self, array: _Array) -> Iterator[npt.NDArray[np.generic]]:
        """Some numbers at a time, in the order of the file."""
        with self.archive.open(array.member) as stream:
            _read_header(stream, array.member)
            left = b""
            for data in chunks(stream, array.member, stream.tell()):
                whole = left + data
                used = len(whole) - len(whole) % array.dtype.itemsize
                left = whole[used:]
                yield np.frombuffer(whole[:used], array.dtype)

    def labels(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Class names in the order of their labels, and the class of each example."""
        key = f"{self.prefix}label"
        # Before labels are sorted, which takes many times their memory.
        check_examples(max((0, *self.inputs.shape[:1], *self.arrays[key].shape[:1])))
        values, where = self.small(key), self.arrays[key].member.filename
        if values.dtype.kind not in "iuU":
            raise DatasetFileError("npz_dtype", "Labels are whole numbers or texts.", where)
        if len(values) != self.inputs.shape[0]:
            detail = f"There are {self.inputs.shape[0]} inputs but {len(values)} labels."
            raise DatasetFileError("npz_shape", detail, where)
        present, index = np.unique(values, return_inverse=True)
        check_classes(len(present))
        if values.dtype.kind == "U" or "class_name" not in self.arrays:
            names = [label(str(value), where) for value in present]
        else:
            names = [label(name, "class_name.npy") for name in self._given(present)]
        if len(set(names)) < len(names):
            raise DatasetFileError("duplicate_label", "Two classes have the same name.", where)
        return names, index.astype(np.int64)

    def _given(self, present: npt.NDArray[np.generic]) -> list[str]:
        given = self.small("class_name")
        if given.dtype.kind != "U":
            raise DatasetFileError("npz_dtype", "Class names are texts.", "class_name.npy")
        if int(present.min(initial=0)) < 0 or int(present.max(initial=0)) >= len(given):
            detail = f"There are {len(given)} class names; a label is beyond them."
            raise DatasetFileError("npz_labels", detail, "class_name.npy", len(given))
        return [str(given[int(value)]) for value in present]


def inspect(file: BufferedIOBase, split: str | None = None) -> Summary:
    """Reads every number, some at a time. Raises `DatasetFileError`."""
    npz = _Npz(file, split)
    names, labels = npz.labels()
    shape = npz.check_inputs()
    counts = np.bincount(labels, minlength=len(names)).tolist()
    return summary(
        "image" if npz.name.endswith("image") else "vector", shape, dict(zip(names, counts, strict=True))
    )


def load(file: BufferedIOBase, source: str, split: str | None = None) -> ClassDataset:
    """All in memory: vectors as float32 [n, d], pictures as uint8 as they are. Raises `DatasetFileError`."""
    inspect(file, split)
    npz = _Npz(file, split)
    names, labels = npz.labels()
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        values = arrays[npz.name]
    inputs = torch.from_numpy(
        np.ascontiguousarray(values if values.dtype == np.uint8 else np.float32(values))
    )
    if not npz.name.endswith("image"):
        inputs = inputs.float()
    domains = torch.zeros(len(names), dtype=torch.long)
    return ClassDataset(source, inputs, torch.from_numpy(labels), tuple(names), domains)


def _read_header(stream: ZipExtFile, member: ZipInfo) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Leaves the stream at the first number."""
    # No more of it: numpy believes how long a header says it is.
    header = BytesIO(stream.read(_HEADER_BYTES))
    try:
        version = np.lib.format.read_magic(header)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(header)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(header)
    except _NO_HEADER as error:
        raise DatasetFileError(
            "archive_damaged", "The array has no valid header.", member.filename
        ) from error
    stream.seek(header.tell())
    return shape, dtype


def _fits(values: npt.NDArray[np.generic]) -> bool:
    """Whether all numbers are finite as float32; the cast itself would make large ones infinite."""
    if not np.issubdtype(values.dtype, np.floating):
        return True
    return bool(np.isfinite(values).all()) and (
        values.itemsize <= 4 or bool((np.abs(values) <= _LARGEST).all())
    )


def _wrong_shape(array: _Array, wanted: str) -> DatasetFileError:
    detail = f"The array has shape {list(array.shape)[:8]}; it needs {wanted}."
    return DatasetFileError("npz_shape", detail, array.member.filename)
