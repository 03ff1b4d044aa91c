"""Examples of a user's data set as they arrive, decoded one at a time: for learners of different inputs, and drawn.

`load` of `models.data.files` stores all pictures in the form of one learner; here each learner makes its own input of
the same pixels, as a server does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipInfo

import numpy as np
import numpy.typing as npt

from hyperserve.leftovers import IMAGE_SUFFIXES, is_leftover
from models.data import zip_file
from models.data.archive import Archive
from models.data.dataset import ClassDataset, DatasetError
from models.data.errors import DatasetFileError, summary
from models.data.files import FORMATS, class_pictures, load
from models.data.zip_layout import zip_layout
from models.inputs import InputError
from models.inputs.image import decode_pixels

_LEAST_DRAWN = 25
"""Examples of a class up to which none are left out as long as there is another class to leave out."""


@dataclass(frozen=True)
class RawExamples:
    """Labelled examples. `decode` makes a stored one a vector, float32 [d], or pixels, uint8 [height, width, 1 or 3].

    It raises `DatasetError` naming the file at fault.
    """

    source: str
    kind: Literal["image", "vector"]
    stored: Sequence[Any]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    decode: Callable[[Any], npt.NDArray[Any]]
    content: Callable[[Any], bytes]
    """Bytes that identify the content of a stored one."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Examples of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def decoded(self) -> Iterator[npt.NDArray[Any]]:
        """Decode all, one at a time."""
        return map(self.decode, self.stored)

    @property
    def digest(self) -> str:
        """SHA-256 of classes, labels and the content of all examples."""
        sha = hashlib.sha256("\n".join(self.class_names).encode())
        sha.update(self.labels.tobytes())
        for one in self.stored:
            sha.update(self.content(one))
        return sha.hexdigest()

    def drawn(self, most: int, seed: int) -> RawExamples:
        """Return at most `most` examples, drawn without replacement.

        Large classes are cut to one size first; if that would be below 25, whole classes are left out.
        """
        if len(self) <= most:
            return self
        rng = np.random.default_rng((seed, 20))
        counts, classes = self.counts, np.arange(len(self.class_names))
        if np.minimum(counts, _LEAST_DRAWN).sum() > most:
            order = rng.permutation(classes)
            fitting = np.minimum(counts[order], _LEAST_DRAWN).cumsum() <= most
            classes = np.sort(order[fitting])
        size = _LEAST_DRAWN
        while np.minimum(counts[classes], size + 1).sum() <= most:
            size += 1
        kept = [
            np.sort(rng.permutation(np.flatnonzero(self.labels == one))[:size]) for one in classes.tolist()
        ]
        index = np.concatenate(kept)
        return replace(
            self,
            stored=[self.stored[position] for position in index.tolist()],
            labels=np.repeat(np.arange(len(classes)), [len(part) for part in kept]),
            class_names=tuple(self.class_names[one] for one in classes.tolist()),
        )


@contextmanager
def open_examples(path: Path, split: str | None = None) -> Iterator[RawExamples]:
    """Open a folder of class folders, a zip of one, an npz or a CSV. Raises `DatasetError` naming the file at fault.

    `split` chooses the arrays of an npz, as in `models.data.files.load`.
    """
    if path.is_dir():
        pictures = class_pictures(path)
        files = [file for members in pictures.values() for file in members]
        yield RawExamples(
            path.name, "image", files, _labels(pictures), tuple(pictures), _picture_file, Path.read_bytes
        )
    elif FORMATS.get(path.suffix.lower()) == "zip" and path.is_file():
        with path.open("rb") as file:
            try:
                archive = Archive(file)
                classes = zip_layout(archive).classes
                summary("image", None, {name: len(members) for name, members in classes.items()})
            except DatasetFileError as error:
                raise DatasetError(f"{path}: {error}") from error
            ordered = dict(sorted(classes.items()))
            stored = [member for members in ordered.values() for member in members]
            decode = partial(_picture_member, path, archive)
            yield RawExamples(
                path.name, "image", stored, _labels(ordered), tuple(ordered), decode, _member_content
            )
    else:
        yield _of_arrays(load(path, split))


def data_sets(path: Path) -> list[Path]:
    """Return the data set at a path, or those that a folder holds: files, and folders of class folders.

    Raises `DatasetError` if there are none.
    """
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder")
    if not path.is_dir() or _holds_classes(path):
        return [path]
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    found = [
        entry
        for entry in entries
        if (_holds_classes(entry) if entry.is_dir() else entry.suffix.lower() in FORMATS)
    ]
    if not found:
        raise DatasetError(f"{path}: neither class folders with pictures nor zips, npz or CSV files in it")
    return found


def _holds_classes(folder: Path) -> bool:
    """Return True if pictures lie in folders of the folder; one class is enough, to be refused when it is opened."""
    return any(
        file.suffix.lower() in IMAGE_SUFFIXES and not is_leftover([entry.name, file.name])
        for entry in folder.iterdir()
        if entry.is_dir()
        for file in entry.iterdir()
    )


def _of_arrays(dataset: ClassDataset) -> RawExamples:
    inputs = dataset.inputs.numpy()
    if dataset.kind == "image" and inputs.ndim == 3:
        inputs = inputs[..., None]
    return RawExamples(
        dataset.source,
        dataset.kind,
        list(inputs),
        dataset.labels.numpy(),
        dataset.class_names,
        _as_it_is,
        np.ndarray.tobytes,
    )


def _labels(classes: Mapping[str, Sequence[object]]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()])


def _as_it_is(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return stored


def _member_content(member: ZipInfo) -> bytes:
    return f"{member.CRC} {member.file_size}\n".encode()


def _picture_file(file: Path) -> npt.NDArray[np.uint8]:
    try:
        return decode_pixels(file.read_bytes())
    except InputError as error:
        raise DatasetError(f"{file}: {error.detail}") from error


def _picture_member(path: Path, archive: Archive, member: ZipInfo) -> npt.NDArray[np.uint8]:
    try:
        return decode_pixels(zip_file.picture_bytes(archive, member))
    except InputError as error:
        raise DatasetError(f"{path}: {member.filename}: {error.detail}") from error
    except DatasetFileError as error:
        raise DatasetError(f"{path}: {error}") from error
