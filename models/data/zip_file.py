"""Reading of a zip of class folders with pictures in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from typing import TypeVar
from zipfile import ZipInfo

import numpy as np
import numpy.typing as npt
import torch

from models.data.archive import Archive
from models.data.dataset import GLYPH_SIDE, ClassDataset
from models.data.errors import READ_DEFAULTS, DatasetFileError, FileWarning, ReadOptions, Summary, summary
from models.data.zip_layout import ZipLayout, members_warning, zip_layout
from models.inputs import ImageBytes, ImageInput, InputError, PictureInput
from models.inputs.image import MAX_BYTES, decode_pixels, pixel_count

GLYPHS = ImageInput(size=GLYPH_SIDE)
MAX_PIXELS = 32_000_000_000
"""Limit for all pictures together, some minutes of decoding. Blank ones have a thousand for each byte of a zip."""
_BAD_MEMBER = ("image_too_large", "archive_damaged")
"""Faults of one member that are no faults of the archive."""
Decoded = TypeVar("Decoded")


def inspect(file: BufferedIOBase, options: ReadOptions = READ_DEFAULTS) -> Summary:
    """Decode every picture. Raises `DatasetFileError`."""
    archive = Archive(file)
    layout = zip_layout(archive)
    # Too few or too many, before anything is decoded.
    summary("image", None, {name: len(members) for name, members in layout.classes.items()})
    pixels = 0

    def check(member: ZipInfo, data: bytes) -> None:
        nonlocal pixels
        pixels += pixel_count(data)
        if pixels > MAX_PIXELS:
            detail = f"The pictures up to this one have more than {MAX_PIXELS} pixels together."
            raise DatasetFileError("archive_too_large", detail, member.filename, MAX_PIXELS)
        decode_pixels(data)

    bad: list[str] = []
    counts = Counter(name for name, _ in _pictures(archive, layout, options, check, bad))
    warnings = (
        *layout.warnings,
        *_bad_warnings(bad, [name for name in layout.classes if name not in counts]),
    )
    return summary("image", None, dict(counts), warnings)


def load(
    file: BufferedIOBase, source: str, pictures: PictureInput = GLYPHS, options: ReadOptions = READ_DEFAULTS
) -> ClassDataset:
    """Return ink, uint8 [n, side, side], or photos, [n, side, side, 3]; decodes one at a time.

    `pictures` is the form that they take. Raises `DatasetFileError`.
    """
    archive = Archive(file)
    layout = zip_layout(archive)
    most = summary("image", None, {name: len(members) for name, members in layout.classes.items()}).examples
    channels, *sides = pictures.shape
    inputs = torch.empty((most, *sides, *([channels] * (channels > 1))), dtype=torch.uint8)
    names: dict[str, int] = {}
    labels: list[int] = []

    def decode(member: ZipInfo, data: bytes) -> npt.NDArray[np.uint8]:
        return stored_pixels(pictures.decode(ImageBytes(data)))

    for name, picture in _pictures(archive, layout, options, decode, []):
        inputs[len(labels)] = torch.from_numpy(picture)
        labels.append(names.setdefault(name, len(names)))
    summary("image", None, dict.fromkeys(names, 1))
    return ClassDataset(
        source,
        inputs[: len(labels)],
        torch.tensor(labels),
        tuple(names),
        torch.zeros(len(names), dtype=torch.long),
    )


def stored_pixels(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return a decoded picture [channels, side, side] as data sets store it: ink [side, side], RGB [side, side, 3]."""
    whole = np.rint(255 * picture).astype(np.uint8)
    return whole[0] if len(whole) == 1 else whole.transpose(1, 2, 0)


def _pictures(
    archive: Archive,
    layout: ZipLayout,
    options: ReadOptions,
    decode: Callable[[ZipInfo, bytes], Decoded],
    bad: list[str],
) -> Iterator[tuple[str, Decoded]]:
    """Yield the class of each picture and the decoded picture, by the names of classes and members.

    With `skip_bad` the names of those that cannot be decoded are added to `bad`. Raises `DatasetFileError`.
    """
    for name, members in sorted(layout.classes.items()):
        for member in members:
            try:
                decoded = decode(member, picture_bytes(archive, member))
            except InputError as error:
                refused = DatasetFileError(error.code, error.detail, member.filename, error.limit)
            except DatasetFileError as error:
                if error.code not in _BAD_MEMBER:
                    raise
                refused = error
            else:
                yield name, decoded
                continue
            if not options.skip_bad:
                raise refused
            bad.append(member.filename)


def _bad_warnings(bad: list[str], emptied: list[str]) -> tuple[FileWarning, ...]:
    return members_warning(
        "bad_images_left_out", "Images that cannot be decoded were left out.", bad
    ) + members_warning(
        "classes_left_out", "Classes of which no image can be decoded were left out.", emptied
    )


def picture_bytes(archive: Archive, member: ZipInfo) -> bytes:
    """Read a member of bounded size. Raises `DatasetFileError`."""
    if member.file_size > MAX_BYTES:
        detail = f"The picture has more than {MAX_BYTES} bytes."
        raise DatasetFileError("image_too_large", detail, member.filename, MAX_BYTES)
    return archive.read(member)
