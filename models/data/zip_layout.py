"""Layout of a zip: one folder of images per class; folders around all of them are looked through.

A member `hyperserve.json` beside the class folders, {"labels": {folder: label}}, gives labels that cannot be names of
folders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zipfile import ZipInfo

from hyperserve.leftovers import LABELS_MEMBER, cannot_be_image, is_document, is_extra
from models.data.archive import Archive
from models.data.errors import DatasetFileError, FileWarning, check_classes, check_examples, label, shown
from models.inputs import InputError
from models.inputs.image import sniff

SHOWN_NAMES = 10
_LABELS_BYTES = 16 << 20
_SNIFFED_BYTES, _SNIFFED_FILES = 64, 100
_Placed = tuple[tuple[str, ...], ZipInfo]


@dataclass(frozen=True)
class ZipLayout:
    """Members of each class in the order of their names, and the names of members that are in no class."""

    classes: dict[str, list[ZipInfo]]
    leftovers: list[str]
    extras: list[str]

    @property
    def warnings(self) -> tuple[FileWarning, ...]:
        return members_warning(
            "leftovers_left_out",
            "Files that file managers, version control and other programs leave are no examples.",
            self.leftovers,
        ) + members_warning(
            "extras_left_out", "Files beside the images, such as documents, are no examples.", self.extras
        )


def members_warning(code: str, detail: str, names: Sequence[str]) -> tuple[FileWarning, ...]:
    """Return a warning about members that were left out, if there are any."""
    if not names:
        return ()
    return (FileWarning(code, detail, len(names), tuple(shown(name) for name in names[:SHOWN_NAMES])),)


def zip_layout(archive: Archive) -> ZipLayout:
    """Find the class folders. Raises `DatasetFileError`: archive_layout, empty_class, duplicate_label, ..."""
    check_examples(len(archive.files))
    placed = [(tuple(member.filename.split("/")), member) for member in archive.files]
    placed.sort(key=lambda pair: pair[1].filename)
    folders = [tuple(folder.split("/")) for folder in archive.folders]
    labels: Mapping[str, str] = {}
    extras: list[str] = []
    depth = 0
    while True:
        beside = [member for path, member in placed if len(path) == 1]
        placed = [pair for pair in placed if len(pair[0]) > 1]
        for member in beside:
            if member.filename.rpartition("/")[2] == LABELS_MEMBER:
                labels = _labels(archive, member)
        extras += _extras(archive, [m for m in beside if m.filename.rpartition("/")[2] != LABELS_MEMBER])
        if not _is_wrapped(placed, folders):
            break
        depth += 1
        placed = [(path[1:], member) for path, member in placed]
        folders = [folder[1:] for folder in folders if len(folder) > 1]
    classes, more = _classes(placed, labels)
    filled = {path[0] for path, _ in placed} | _documented(archive.left_out, depth)
    _check_folders(folders, filled, labels)
    return ZipLayout(classes, sorted(archive.left_out), sorted(extras + more))


def _is_wrapped(placed: Sequence[_Placed], folders: Sequence[tuple[str, ...]]) -> bool:
    """Return True if one folder lies around all class folders."""
    firsts = {path[0] for path, _ in placed} | {folder[0] for folder in folders}
    return len(firsts) == 1 and any(len(path) > 2 for path, _ in placed)


def _documented(leftovers: Iterable[str], depth: int) -> set[str]:
    """Return folders that hold documents: they need not be classes."""
    paths = (name.split("/")[depth:] for name in leftovers if is_document(name.rpartition("/")[2]))
    return {path[0] for path in paths if len(path) > 1}


def _classes(
    placed: Iterable[_Placed], labels: Mapping[str, str]
) -> tuple[dict[str, list[ZipInfo]], list[str]]:
    """Return the members of each class, and the names of members that are no images."""
    by_folder: dict[str, list[ZipInfo]] = {}
    extras: list[str] = []
    for path, member in placed:
        if cannot_be_image(path[-1]):
            extras.append(member.filename)
        elif len(path) == 2:
            by_folder.setdefault(path[0], []).append(member)
        else:
            detail = (
                "The file lies in a folder within a class folder; an archive holds class folders with images in "
                "them."
            )
            raise DatasetFileError("archive_layout", detail, member.filename)
    found: dict[str, list[ZipInfo]] = {}
    for folder, members in by_folder.items():
        name = label(labels.get(folder, folder), members[0].filename)
        if name in found:
            detail = f"Two folders are the class {shown(name)} after Unicode normalisation (NFC)."
            raise DatasetFileError("duplicate_label", detail, members[0].filename)
        found[name] = members
    check_classes(len(found))
    return found, extras


def _check_folders(folders: Iterable[tuple[str, ...]], filled: set[str], labels: Mapping[str, str]) -> None:
    for folder in folders:
        if len(folder) == 1 and folder[0] not in filled:
            raise DatasetFileError("empty_class", "The class folder has no images.", folder[0])
    if missing := [folder for folder in labels if folder not in filled]:
        detail = f"{LABELS_MEMBER} gives a label to the folder {shown(missing[0])}, which holds no images."
        raise DatasetFileError("archive_labels", detail, LABELS_MEMBER)


def _extras(archive: Archive, members: Sequence[ZipInfo]) -> list[str]:
    """Return the names of files beside the class folders; none of them may be an image, which would get lost."""
    unknown = [member for member in members if not cannot_be_image(member.filename)]
    for index, member in enumerate(unknown):
        if (
            index >= _SNIFFED_FILES
            or not is_extra(member.filename.split("/"))
            or _begins_like_image(archive, member)
        ):
            detail = (
                "The file lies outside the class folders; an archive holds class folders with images in them."
            )
            raise DatasetFileError("archive_layout", detail, member.filename)
    return [member.filename for member in members]


def _begins_like_image(archive: Archive, member: ZipInfo) -> bool:
    with archive.open(member) as stream:
        beginning = stream.read(_SNIFFED_BYTES)
    try:
        sniff(beginning)
    except InputError as error:
        return error.code != "not_an_image"
    return True


def _labels(archive: Archive, member: ZipInfo) -> dict[str, str]:
    """Read labels by folder."""
    if member.file_size > _LABELS_BYTES:
        detail = f"The file has more than {_LABELS_BYTES} bytes."
        raise DatasetFileError("archive_labels", detail, member.filename, _LABELS_BYTES)
    try:
        document = json.loads(archive.read(member))
    except (ValueError, RecursionError) as error:
        raise DatasetFileError("archive_labels", "The file is not JSON.", member.filename) from error
    match document:
        case {"labels": dict() as labels} if all(isinstance(text, str) for text in labels.values()):
            return labels
    detail = 'The file needs labels by folder: {"labels": {"0": "first label", "1": "second label"}}.'
    raise DatasetFileError("archive_labels", detail, member.filename)
