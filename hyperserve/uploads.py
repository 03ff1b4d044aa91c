"""Preparation of labelled examples as files to upload."""

from __future__ import annotations

import base64
import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from hyperserve import inputs, labels
from hyperserve.errors import InvalidArgumentError
from hyperserve.leftovers import (
    LABELS_MEMBER,
    RESOURCE_FORKS,
    cannot_be_image,
    is_document,
    is_extra,
    is_leftover,
)
from hyperserve.types import Dataset, DatasetWarning

MEDIA_TYPES = {
    ".zip": "application/zip",
    ".npz": "application/x-npz",
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
}
# The earliest date that a zip can hold: a folder then zips to the same bytes at any time.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_SHOWN = 10
"""Names that a warning lists."""


@dataclass(frozen=True)
class Upload:
    """A file to stream, with its size."""

    path: Path
    media_type: str
    size: int
    temporary: bool = False
    left_out: tuple[str, ...] = ()
    """Names of files and folders that are no examples."""

    def with_left_out(self, dataset: Dataset) -> Dataset:
        """Return the dataset with a warning about what was left out before the upload, if anything was."""
        if not self.left_out:
            return dataset
        warning = DatasetWarning(
            code="leftovers_left_out",
            detail="Files that other programs left in the folder, or beside its classes, were not uploaded.",
            count=len(self.left_out),
            examples=list(self.left_out[:_SHOWN]),
        )
        return dataset.model_copy(update={"warnings": [*dataset.warnings, warning]})

    def discard(self) -> None:
        """Remove the file if it was made for the upload."""
        if self.temporary:
            self.path.unlink(missing_ok=True)


def prepare(path: str | Path, content_type: str | None = None) -> Upload:
    """Return a zip, npz or csv file as it is, and a folder of class folders as a zip that `discard` removes.

    Files that other programs leave in folders, and documents beside the class folders, are left out. Raises
    InvalidArgumentError for a file of another kind, one that cannot be read, and a folder with another layout.
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
            size = source.stat().st_size
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {str(source)!r}: {error.strerror}") from error
    if not size:
        raise InvalidArgumentError(f"{str(source)!r} is empty (0 bytes)")
    return Upload(source, media_type, size)


def from_examples(examples: Mapping[Any, Iterable[inputs.Input]]) -> Upload:
    """Write examples by label to a file that `discard` removes: a zip of images or a csv of vectors.

    Raises InvalidArgumentError naming the class and the example.
    """
    labelled: list[tuple[str, inputs.Wire]] = []
    for label, key, group in inputs.by_label(examples):
        if (fault := labels.fault(label)) is not None:
            raise InvalidArgumentError(f"class {key!r}: {fault.detail}")
        found = inputs.queries(group, f"class {key!r}, example")
        if not found:
            raise InvalidArgumentError(f"class {key!r} has no examples")
        labelled += [(label, one) for one in found]
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
    """Write folders by number, and their labels apart: not every label can be the name of a folder."""
    folders = {
        label: str(number) for number, label in enumerate(dict.fromkeys(label for label, _ in labelled))
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add_labels(archive, {folder: label for label, folder in folders.items()})
        for number, (label, one) in enumerate(labelled):
            entry = zipfile.ZipInfo(f"{folders[label]}/{number}", _EPOCH)
            archive.writestr(entry, base64.b64decode(one["image"]))


def _add_labels(archive: zipfile.ZipFile, labels_by_folder: Mapping[str, str]) -> None:
    document = json.dumps({"labels": labels_by_folder}, ensure_ascii=False)
    archive.writestr(zipfile.ZipInfo(LABELS_MEMBER, _EPOCH), document.encode())


def _write_vectors(file: IO[bytes], labelled: Sequence[tuple[str, inputs.Wire]]) -> None:
    text = io.StringIO(newline="")
    # Quoted labels are texts to the server, whatever they look like.
    rows = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    rows.writerow(["label", *(f"x{index}" for index in range(len(labelled[0][1]["vector"])))])
    rows.writerows([label, *one["vector"]] for label, one in labelled)
    file.write(text.getvalue().encode())


@dataclass(frozen=True)
class ClassFolders:
    """Files of each class folder, and the names of files and folders that are no examples."""

    files: dict[Path, list[Path]]
    left_out: list[str]

    @classmethod
    def of(cls, root: Path) -> ClassFolders:
        """Look into a folder. Raises InvalidArgumentError for another layout than folders of files."""
        found = cls({}, [])
        stray: list[str] = []
        for child in sorted(root.iterdir()):
            if _is_left(child):
                found.left_out.append(child.name)
            elif child.is_dir():
                found._add_class(child)
            elif is_extra([child.name]):
                found.left_out.append(child.name)
            else:
                stray.append(child.name)
        if not found.files:
            raise InvalidArgumentError(f"{str(root)!r} has no subfolders; expected one folder per class")
        if stray:
            raise InvalidArgumentError(
                f"the image {stray[0]!r} lies beside the class folders; move it into one of them"
            )
        return found

    def _add_class(self, folder: Path) -> None:
        names = sorted(folder.iterdir())
        documents = {child for child in names if child.is_file() and _is_document(child.name)}
        examples = [child for child in names if child not in documents and not _is_left(child)]
        hidden = folder.name == RESOURCE_FORKS or folder.name.startswith(".")
        if not any(child.is_file() for child in examples) and (hidden or documents):
            self.left_out.append(folder.name)
            return
        if not examples:
            raise InvalidArgumentError(f"class {folder.name!r} has no examples")
        for child in examples:
            if not child.is_file():
                raise InvalidArgumentError(
                    f"class {folder.name!r} must hold files only, but {child.name!r} is not a file"
                )
        left_out = sorted(set(names).difference(examples))
        self.left_out.extend(f"{folder.name}/{child.name}" for child in left_out)
        self.files[folder] = examples


def _is_left(child: Path) -> bool:
    return is_leftover([child.name], folder=child.is_dir())


def _is_document(name: str) -> bool:
    return is_document(name) or (cannot_be_image(name) and not is_leftover([name]))


def _zip_folder(root: Path) -> Upload:
    try:
        content = ClassFolders.of(root)
        upload = _temporary(".zip", lambda file: _write_folders(file, content))
    except OSError as error:
        raise InvalidArgumentError(f"cannot zip {str(root)!r}: {error}") from error
    return replace(upload, left_out=tuple(content.left_out))


def _write_folders(file: IO[bytes], content: ClassFolders) -> None:
    # Images are compressed already.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        names = {folder: folder.name for folder in content.files}
        if not all(map(_travels, names.values())):
            names = {folder: str(number) for number, folder in enumerate(content.files)}
            _add_labels(archive, {name: _label(folder) for folder, name in names.items()})
        for folder, files in content.files.items():
            for number, source in enumerate(files):
                name = source.name if _travels(source.name) else f"{number}{source.suffix}"
                _add(archive, f"{names[folder]}/{name}", source)


def _add(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    entry.file_size = file.stat().st_size  # tells the archive when it needs zip64
    with file.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)


def _travels(name: str) -> bool:
    """Return True for names that every reader of zips takes as they are."""
    return "\\" not in name and not name.endswith(":") and _is_text(name)


def _label(folder: Path) -> str:
    if not _is_text(folder.name):
        raise InvalidArgumentError(f"the name of the class folder {folder.name!r} is not UTF-8; rename it")
    return folder.name


def _is_text(name: str) -> bool:
    """Return True unless the file system's bytes of a name were not text."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
