"""Preparation of labelled examples as files to upload."""

from __future__ import annotations

import base64
import csv
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hyperserve import inputs
from hyperserve.errors import InvalidArgumentError

MEDIA_TYPES = {".zip": "application/zip", ".npz": "application/x-npz", ".csv": "text/csv"}
# The earliest date that a zip can hold: a folder then zips to the same bytes at any time.
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Upload:
    """A file to stream, with its size."""

    path: Path
    media_type: str
    size: int
    temporary: bool = False

    def discard(self) -> None:
        """Remove the file if it was made for the upload."""
        if self.temporary:
            self.path.unlink(missing_ok=True)


def prepare(path: str | Path, content_type: str | None = None) -> Upload:
    """Return a zip, npz or csv file as it is, and a folder of class folders as a zip that `discard` removes.

    Hidden files and files outside the class folders are left out. Raises InvalidArgumentError for a file of another
    kind, one that cannot be read, and a folder with another layout.
    """
    source = Path(path)
    if source.is_dir():
        return _zip_folder(source)
    media_type = content_type or MEDIA_TYPES.get(source.suffix.lower())
    if media_type is None:
        raise InvalidArgumentError(
            f"{source.name}: the suffix is none of {', '.join(MEDIA_TYPES)}; pass content_type, or the path of "
            "a folder of class folders"
        )
    try:
        with source.open("rb"):
            return Upload(source, media_type, source.stat().st_size)
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {str(source)!r}: {error.strerror}") from error


def from_examples(examples: Mapping[str, Iterable[inputs.Input]]) -> Upload:
    """Write examples by class to a file that `discard` removes: a zip of images or a csv of vectors.

    Raises InvalidArgumentError naming the class and the example.
    """
    labelled = [
        (label, one)
        for label, group in examples.items()
        for one in inputs.queries(group, f"class {label!r}, example")
    ]
    kinds = {kind for _, one in labelled for kind in one}
    if kinds not in ({"image"}, {"vector"}):
        raise InvalidArgumentError("a labelled set must hold images or vectors, not both")
    if kinds == {"image"}:
        return _temporary(".zip", lambda file: _write_images(file, labelled))
    return _temporary(".csv", lambda file: _write_vectors(file, labelled))


def _temporary(suffix: str, write: Callable[[IO[bytes]], None]) -> Upload:
    """Return a temporary file with what `write` wrote into it; no file remains after an error."""
    with tempfile.NamedTemporaryFile(prefix="hyperserve-", suffix=suffix, delete=False) as file:
        path = Path(file.name)
        try:
            write(file)
        except BaseException:
            path.unlink()
            raise
    return Upload(path, MEDIA_TYPES[suffix], path.stat().st_size, temporary=True)


def _write_images(file: IO[bytes], labelled: Sequence[tuple[str, inputs.Wire]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, (label, one) in enumerate(labelled):
            if "/" in label or label in ("", ".", ".."):
                raise InvalidArgumentError(
                    f"class {label!r} cannot be used as a folder name; upload an npz instead"
                )
            archive.writestr(zipfile.ZipInfo(f"{label}/{number}", _EPOCH), base64.b64decode(one["image"]))


def _write_vectors(file: IO[bytes], labelled: Sequence[tuple[str, inputs.Wire]]) -> None:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["label", *(f"x{index}" for index in range(len(labelled[0][1]["vector"])))])
    rows.writerows([label, *map(repr, one["vector"])] for label, one in labelled)
    file.write(text.getvalue().encode())


def _zip_folder(folder: Path) -> Upload:
    classes = sorted(child for child in folder.iterdir() if child.is_dir() and not _hidden(child))
    if not classes:
        raise InvalidArgumentError(f"{str(folder)!r} has no subfolders; expected one folder per class")
    try:
        return _temporary(".zip", lambda file: _write_folders(file, classes))
    except OSError as error:
        raise InvalidArgumentError(f"cannot zip {str(folder)!r}: {error}") from error


def _write_folders(file: IO[bytes], classes: Sequence[Path]) -> None:
    # Images are compressed already.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for label in classes:
            _add(archive, label)


def _add(archive: zipfile.ZipFile, folder: Path) -> None:
    files = sorted(child for child in folder.iterdir() if not _hidden(child))
    if not files:
        raise InvalidArgumentError(f"class {folder.name!r} has no examples")
    for file in files:
        if not file.is_file():
            raise InvalidArgumentError(
                f"class {folder.name!r} must hold files only, but {file.name!r} is not a file"
            )
        entry = zipfile.ZipInfo(f"{folder.name}/{file.name}", _EPOCH)
        entry.external_attr = 0o644 << 16
        entry.file_size = file.stat().st_size  # tells the archive when it needs zip64
        with file.open("rb") as source, archive.open(entry, "w") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)


def _hidden(path: Path) -> bool:
    """Return True for hidden files and those of file managers: .DS_Store, __MACOSX, Thumbs.db."""
    return path.name.startswith((".", "__")) or path.name in ("Thumbs.db", "desktop.ini")
