"""Reading of a zip of class folders with pictures in them; one folder around all of them is skipped."""

from __future__ import annotations

from io import BufferedIOBase
from zipfile import ZipInfo

import numpy as np
import numpy.typing as npt
import torch

from models.data.archive import Archive
from models.data.dataset import GLYPH_SIDE, ClassDataset
from models.data.errors import (
    READ_DEFAULTS,
    DatasetFileError,
    ReadOptions,
    Summary,
    check_classes,
    check_examples,
    label,
    shown,
    summary,
)
from models.inputs import ImageBytes, ImageInput, InputError, PictureInput
from models.inputs.image import MAX_BYTES, decode_pixels, pixel_count

GLYPHS = ImageInput(size=GLYPH_SIDE)
MAX_PIXELS = 32_000_000_000
"""Limit for all pictures together, some minutes of decoding. Blank ones have a thousand for each byte of a zip."""


def inspect(file: BufferedIOBase, options: ReadOptions = READ_DEFAULTS) -> Summary:
    """Decode every picture. Raises `DatasetFileError`."""
    archive = Archive(file)
    found = _classes(archive)
    described = summary("image", None, {name: len(members) for name, members in found.items()})
    pixels = 0
    for member in (member for members in found.values() for member in members):
        data = _picture(archive, member)
        try:
            pixels += pixel_count(data)
            if pixels > MAX_PIXELS:
                detail = f"The pictures up to this one have more than {MAX_PIXELS} pixels together."
                raise DatasetFileError("archive_too_large", detail, member.filename, MAX_PIXELS)
            decode_pixels(data)
        except InputError as error:
            raise _unreadable(member, error) from error
    return described


def load(
    file: BufferedIOBase, source: str, pictures: PictureInput = GLYPHS, options: ReadOptions = READ_DEFAULTS
) -> ClassDataset:
    """Return ink, uint8 [n, side, side], or photos, [n, side, side, 3]; decodes one at a time.

    `pictures` says what they become. Raises `DatasetFileError`.
    """
    archive = Archive(file)
    found = dict(sorted(_classes(archive).items()))
    counts = summary("image", None, {name: len(members) for name, members in found.items()})
    channels, *sides = pictures.shape
    inputs = torch.empty((counts.examples, *sides, *([channels] * (channels > 1))), dtype=torch.uint8)
    for index, member in enumerate(member for members in found.values() for member in members):
        try:
            picture = pictures.decode(ImageBytes(_picture(archive, member)))
        except InputError as error:
            raise _unreadable(member, error) from error
        inputs[index] = torch.from_numpy(stored_pixels(picture))
    labels = torch.arange(len(found)).repeat_interleave(torch.tensor(list(counts.classes.values())))
    return ClassDataset(source, inputs, labels, tuple(found), torch.zeros(len(found), dtype=torch.long))


def stored_pixels(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return a decoded picture [channels, side, side] as data sets store it: ink [side, side], RGB [side, side, 3]."""
    whole = np.rint(255 * picture).astype(np.uint8)
    return whole[0] if len(whole) == 1 else whole.transpose(1, 2, 0)


def _classes(archive: Archive) -> dict[str, list[ZipInfo]]:
    """Return the members of each class, in the order of their names."""
    check_examples(len(archive.files))
    paths = [(member.filename.split("/"), member) for member in archive.files]
    firsts = {parts[0] for parts, _ in paths} | {folder.split("/")[0] for folder in archive.folders}
    wrapped = len(firsts) == 1 and any(len(parts) > 2 for parts, _ in paths)
    found: dict[str, list[ZipInfo]] = {}
    folders: dict[str, str] = {}
    for parts, member in sorted(paths, key=lambda pair: pair[1].filename):
        inner = parts[wrapped:]
        if len(inner) != 2:
            where = "outside the class folders" if len(inner) < 2 else "in a folder within a class folder"
            detail = f"The file lies {where}; an archive holds class folders with pictures in them."
            raise DatasetFileError("archive_layout", detail, member.filename)
        name = label(inner[0], member.filename)
        if folders.setdefault(name, inner[0]) != inner[0]:
            detail = f"Two folders are the class {shown(name)} after Unicode normalisation (NFC)."
            raise DatasetFileError("duplicate_label", detail, member.filename)
        found.setdefault(name, []).append(member)
    check_classes(len(found))
    for folder in archive.folders:
        rest = folder.split("/")[wrapped:]
        if len(rest) == 1 and rest[0] not in folders.values():
            raise DatasetFileError("empty_class", "The class folder has no pictures.", folder)
    return found


def _picture(archive: Archive, member: ZipInfo) -> bytes:
    if member.file_size > MAX_BYTES:
        detail = f"The picture has more than {MAX_BYTES} bytes."
        raise DatasetFileError("image_too_large", detail, member.filename, MAX_BYTES)
    return archive.read(member)


def _unreadable(member: ZipInfo, error: InputError) -> DatasetFileError:
    return DatasetFileError(error.code, error.detail, member.filename, error.limit)
