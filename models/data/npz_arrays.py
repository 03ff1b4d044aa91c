"""Arrays of an npz by their headers, read in place; object arrays, which would be pickles, are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from tokenize import TokenError
from zipfile import ZipExtFile, ZipInfo

import numpy as np
import numpy.typing as npt

from models.data.archive import Archive, chunks, finish
from models.data.errors import DatasetFileError

_SUFFIX = ".npy"
_LABEL_BYTES = 256 << 20
_HEADER_BYTES = 64 << 10
"""Version 2 of the format lets a header say that it has up to 4 GB."""
_LAST_CHARACTER = 0x10FFFF
_NO_HEADER = (ValueError, SyntaxError, TypeError, TokenError, RecursionError, MemoryError)
"""Exceptions that numpy raises on headers, which it reads as Python literals."""


@dataclass(frozen=True)
class NpzArray:
    """One array by its header."""

    member: ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def where(self) -> str:
        return self.member.filename

    def wrong_shape(self, needed: str) -> DatasetFileError:
        """Return the refusal of the array's shape."""
        detail = f"The array has shape {list(self.shape)[:8]}; it needs {needed}."
        return DatasetFileError("npz_shape", detail, self.where)


class NpzArrays:
    """The arrays of a file by name. Raises `DatasetFileError` npz_layout, npz_pickle, npz_dtype, archive_damaged."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._archive = Archive(file)
        self.by_name = {
            member.filename.removesuffix(_SUFFIX): self._header(member) for member in self._archive.files
        }

    def __getitem__(self, name: str) -> NpzArray:
        return self.by_name[name]

    def _header(self, member: ZipInfo) -> NpzArray:
        if not member.filename.endswith(_SUFFIX) or "/" in member.filename:
            raise DatasetFileError(
                "npz_layout", "An npz holds arrays (.npy) and no folders.", member.filename
            )
        with self._archive.open(member) as stream:
            shape, dtype = _read_header(stream, member)
            if dtype.hasobject:
                detail = "The array holds Python objects (pickle), which are never read; save texts by astype(str)."
                raise DatasetFileError("npz_pickle", detail, member.filename)
            if dtype.itemsize == 0 or dtype.subdtype is not None or dtype.names is not None:
                detail = "The array holds neither numbers nor texts."
                raise DatasetFileError("npz_dtype", detail, member.filename)
            if stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                detail = "The array has another size than its header says."
                raise DatasetFileError("archive_damaged", detail, member.filename)
        return NpzArray(member, shape, dtype)

    def small(self, name: str) -> npt.NDArray[np.generic]:
        """Read an array of one axis, or of a second one of length 1, which is dropped."""
        array = self.by_name[name]
        if array.shape[1:] not in ((), (1,)) or not array.shape:
            one_hot = "; of one-hot labels store argmax(axis=1)" if len(array.shape) == 2 else ""
            raise array.wrong_shape(f"axes [n] or [n, 1]{one_hot}")
        if array.member.file_size > _LABEL_BYTES:
            detail = f"The array has more than {_LABEL_BYTES} bytes."
            raise DatasetFileError("npz_labels", detail, array.where, _LABEL_BYTES)
        with self._archive.open(array.member) as stream:
            _read_header(stream, array.member)
            data = stream.read(array.member.file_size - stream.tell())
            finish(stream, array.member, stream.tell())
        values = np.frombuffer(data, array.dtype)
        if array.dtype.kind == "U":
            characters = values.view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
            if int(characters.max(initial=0)) > _LAST_CHARACTER:
                raise DatasetFileError("npz_labels", "A text has no valid characters.", array.where)
        return values

    def values(self, name: str) -> Iterator[npt.NDArray[np.generic]]:
        """Yield numbers in the order of the file, some at a time."""
        array = self.by_name[name]
        with self._archive.open(array.member) as stream:
            _read_header(stream, array.member)
            left = b""
            for data in chunks(stream, array.member, stream.tell()):
                whole = left + data
                used = len(whole) - len(whole) % array.dtype.itemsize
                left = whole[used:]
                yield np.frombuffer(whole[:used], array.dtype)


def _read_header(stream: ZipExtFile, member: ZipInfo) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Read shape and type, leaving the stream at the first number."""
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
