"""Reading of users' data sets: class folders, plain or in a zip; an npz of labelled arrays; a CSV of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np
import torch

from hyperserve.leftovers import cannot_be_image, is_leftover
from models.data import csv_file, npz_file, zip_file
from models.data.archive import Archive
from models.data.dataset import ClassDataset, DatasetError
from models.data.errors import (
    MIN_CLASSES,
    READ_DEFAULTS,
    DatasetFileError,
    Format,
    ReadOptions,
    Summary,
    label,
)
from models.data.zip_file import GLYPHS, stored_pixels
from models.inputs import ImageBytes, InputError, PictureInput

FORMATS: dict[str, Format] = {".zip": "zip", ".npz": "npz", ".csv": "csv", ".tsv": "csv"}
_SHOWN_INPUTS = 10


def load(path: Path, split: str | None = None, pictures: PictureInput = GLYPHS) -> ClassDataset:
    """Load a folder `path/<class>/<picture>`, a zip of one, an npz or a CSV.

    Raises `DatasetError` naming the file at fault.
    """
    if path.is_dir():
        return from_folder(path, pictures)
    found: Format | None = FORMATS.get(path.suffix.lower())
    if found is None or not path.is_file():
        raise DatasetError(f"{path}: neither a folder of class folders nor a zip, npz or CSV")
    try:
        return from_file(path, found, path.name, split, pictures)
    except DatasetFileError as error:
        raise DatasetError(f"{path}: {error}") from error


def reading_report(path: Path) -> list[str]:
    """Return lines about the reading of a CSV or an npz: columns or arrays, and warnings; none for other files.

    Raises `DatasetError` naming the file at fault.
    """
    found: Format | None = FORMATS.get(path.suffix.lower())
    if found not in ("csv", "npz") or not path.is_file():
        return []
    try:
        with path.open("rb") as file:
            summary = inspect(file, found)
    except DatasetFileError as error:
        raise DatasetError(f"{path}: {error}") from error
    lines = [
        f"{path.name}: {warning.detail} {', '.join(warning.examples)}".rstrip()
        for warning in summary.warnings
    ]
    if (reading := summary.reading) is not None:
        more = ", …" if len(reading.inputs) > _SHOWN_INPUTS else ""
        columns = ", ".join(reading.inputs[:_SHOWN_INPUTS]) + more
        lines.insert(0, f"{path.name}: the labels are {reading.label}, the inputs {columns}")
    return lines


def from_file(
    path: Path,
    format: Format,
    source: str,
    split: str | None = None,
    pictures: PictureInput = GLYPHS,
    options: ReadOptions = READ_DEFAULTS,
) -> ClassDataset:
    """Load a file; pictures of a zip become what `pictures` says, those of an npz stay. Raises `DatasetFileError`."""
    with path.open("rb") as file:
        match format:
            case "zip":
                return zip_file.load(file, source, pictures, options)
            case "npz":
                return npz_file.load(file, source, split, options)
            case "csv":
                return csv_file.load(file, source, options)


def inspect(file: BufferedIOBase, format: Format, options: ReadOptions = READ_DEFAULTS) -> Summary:
    """Return the summary of a file, reading all of it once, a little at a time. Raises `DatasetFileError`."""
    if options.label is not None and format == "zip":
        detail = (
            "The labels of a zip are the names of its class folders; the option label is for CSV and npz."
        )
        raise DatasetFileError("unknown_label_column", detail, "label")
    match format:
        case "zip":
            return zip_file.inspect(file, options)
        case "npz":
            return npz_file.inspect(file, options=options)
        case "csv":
            return csv_file.inspect(file, options)


def sniff(file: BufferedIOBase) -> Format:
    """Return the format by content: an npz is a zip with arrays at its top; anything but a zip is text."""
    file.seek(0)
    if file.read(2) != b"PK":
        return "csv"
    names = [member.filename for member in Archive(file).files]
    if "xl/workbook.xml" in names:
        raise DatasetFileError("csv_grammar", "The file is an Excel workbook; save it as CSV in UTF-8.")
    return "npz" if any(name.endswith(".npy") for name in names) else "zip"


def from_folder(path: Path, pictures: PictureInput = GLYPHS) -> ClassDataset:
    """Load one class per folder, in the order of names; pictures of any size become ink or photos at once.

    Leftovers of other programs and documents are no pictures. Raises `DatasetError`.
    """
    decoded: list[np.ndarray] = []
    labels: list[int] = []
    classes = class_pictures(path)
    for number, files in enumerate(classes.values()):
        for file in files:
            try:
                decoded.append(stored_pixels(pictures.decode(ImageBytes(file.read_bytes()))))
            except InputError as error:
                raise DatasetError(f"{file}: {error.detail}") from error
        labels += [number] * len(files)
    names = tuple(classes)
    return ClassDataset(
        path.name, torch.from_numpy(np.stack(decoded)), torch.tensor(labels), names, _one_domain(names)
    )


def class_pictures(path: Path) -> dict[str, list[Path]]:
    """Return the pictures of each class folder, in the order of names; folders without any are left out.

    Raises `DatasetError` for fewer than two classes and for two of one name.
    """
    found: dict[str, list[Path]] = {}
    for folder in sorted(path.iterdir()):
        if not folder.is_dir() or is_leftover([folder.name], folder=True):
            continue
        if files := sorted(file for file in folder.iterdir() if _is_picture(file)):
            name = label(folder.name, folder.name)
            if name in found:
                raise DatasetError(
                    f"{folder}: another folder has the same name after Unicode normalisation (NFC)"
                )
            found[name] = files
    if len(found) < MIN_CLASSES:
        raise DatasetError(f"{path}: {len(found)} class folders with pictures; at least 2 are needed")
    return found


def _is_picture(file: Path) -> bool:
    return file.is_file() and not is_leftover([file.name]) and not cannot_be_image(file.name)


def _one_domain(names: Sequence[str]) -> torch.Tensor:
    return torch.zeros(len(names), dtype=torch.long)


def held_out(count: int, share: float, least: int = 3) -> int:
    """Return the number of classes that validation takes; it needs `least`, and so does training."""
    return max(least, round(share * count))


def split_classes(
    dataset: ClassDataset, share: float, seed: int, least: int = 3
) -> tuple[ClassDataset, ClassDataset]:
    """Split into disjoint classes for training and validation. Raises `DatasetError`."""
    count = len(dataset.class_names)
    held = held_out(count, share, least)
    if count - held < least:
        raise DatasetError(f"{dataset.source}: {count} classes are too few to train and validate on")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return dataset.select(sorted(order[held:])), dataset.select(sorted(order[:held]))
