"""Refusal of users' data sets, and the rules of all formats: labels, bounds, the summary."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, fields
from typing import Literal

from hyperserve import labels
from models.data.dataset import DatasetError

Format = Literal["zip", "npz", "csv"]

MAX_EXAMPLES = 2_000_000
MAX_CLASSES = 20_000
MIN_CLASSES = 2
MAX_NAMES = 100
"""Names of columns or arrays that a summary holds."""
MAX_ROW_VALUES = 20
"""Numbers of a row that a summary holds."""
_SHOWN = 120
"""Characters of a name that a message repeats."""


class DatasetFileError(DatasetError):
    """A file is no data set. `where` is the member or the line at fault, `limit` the bound that it passes."""

    def __init__(self, code: str, detail: str, where: str | None = None, limit: float | None = None) -> None:
        super().__init__(detail if where is None else f"{shown(where)}: {detail}")
        self.code = code
        self.detail = detail
        self.where = where
        self.limit = limit


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a file, stored with its dataset so that trainings read it as the inspection did."""

    skip_bad: bool = False
    """Leave out images that cannot be decoded, instead of refusing the file."""
    label: str | None = None
    """Column of a CSV by name or position, or array of an npz, that holds the labels; by default it is detected."""

    def changed(self) -> dict[str, object]:
        """Return the options that differ from the defaults."""
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


READ_DEFAULTS = ReadOptions()


@dataclass(frozen=True)
class FileWarning:
    """Something of a file that is worth knowing although the file is accepted."""

    code: str
    detail: str
    count: int
    """Number of members or lines concerned."""
    examples: tuple[str, ...] = ()
    """The first few of them."""


@dataclass(frozen=True)
class TableRow:
    """One row of a table as it was read."""

    label: str
    values: tuple[float, ...]
    """The first `MAX_ROW_VALUES` numbers."""


@dataclass(frozen=True)
class Reading:
    """Columns of a table, or arrays of an npz, by the use that was made of them."""

    label: str
    """Name or position of the column, or name of the array, that holds the labels."""
    inputs: tuple[str, ...]
    """The first `MAX_NAMES` columns of the inputs, or the array that holds them."""
    left_out: tuple[str, ...] = ()
    rows: tuple[TableRow, ...] = ()
    """The first three rows of a table."""


@dataclass(frozen=True)
class Summary:
    """Content of a data set, all of it read and valid."""

    kind: Literal["image", "vector"]
    shape: tuple[int, ...] | None
    """Shape of one input if all share it: [d] of vectors, [height, width] of arrays of pictures."""
    classes: dict[str, int]
    """Number of examples of each class, in the order of names."""
    warnings: tuple[FileWarning, ...] = ()
    reading: Reading | None = None
    """None for folders of images, which leave no choice."""

    @property
    def examples(self) -> int:
        return sum(self.classes.values())


def summary(
    kind: Literal["image", "vector"],
    shape: tuple[int, ...] | None,
    classes: dict[str, int],
    warnings: tuple[FileWarning, ...] = (),
    reading: Reading | None = None,
) -> Summary:
    """Check the counts and return the summary.

    Raises `DatasetFileError`: too_few_classes, dataset_too_many_classes, dataset_too_many_examples.
    """
    if len(classes) < MIN_CLASSES:
        raise too_few_classes(len(classes))
    check_classes(len(classes))
    found = Summary(kind, shape, dict(sorted(classes.items())), warnings, reading)
    check_examples(found.examples)
    return found


def too_few_classes(count: int) -> DatasetFileError:
    """Return the refusal of a file with fewer classes than `MIN_CLASSES`."""
    classes = "1 class" if count == 1 else f"{count} classes"
    detail = f"The file has {classes}; at least {MIN_CLASSES} are needed."
    return DatasetFileError("too_few_classes", detail, limit=MIN_CLASSES)


def check_classes(count: int) -> None:
    if count > MAX_CLASSES:
        detail = f"There are more than {MAX_CLASSES} classes."
        raise DatasetFileError("dataset_too_many_classes", detail, limit=MAX_CLASSES)


def check_examples(count: int) -> None:
    if count > MAX_EXAMPLES:
        detail = f"There are more than {MAX_EXAMPLES} examples."
        raise DatasetFileError("dataset_too_many_examples", detail, limit=MAX_EXAMPLES)


def label(text: str, where: str) -> str:
    """Return a class label in NFC. Raises `DatasetFileError` invalid_label."""
    name = labels.normal(text)
    if (fault := labels.fault(name)) is not None:
        raise DatasetFileError("invalid_label", fault.detail, where, fault.limit)
    return name


def shown(name: str) -> str:
    """Return a name as a message may repeat it: short and printable."""
    plain = "".join(c if unicodedata.category(c)[0] != "C" else "�" for c in name)
    return plain if len(plain) <= _SHOWN else plain[: _SHOWN - 1] + "…"
