"""Vectors as text: rows of a class label and numbers, with or without a header, in the layout of `csv_layout`."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedIOBase

import numpy as np
import torch

from models.data.csv_layout import CsvLayout, check_width, column_name, find_layout
from models.data.csv_rows import MISSING, Row, number_of, read_rows
from models.data.dataset import ClassDataset
from models.data.errors import (
    MAX_NAMES,
    MAX_ROW_VALUES,
    READ_DEFAULTS,
    DatasetFileError,
    FileWarning,
    Reading,
    ReadOptions,
    Summary,
    TableRow,
    check_classes,
    check_examples,
    label,
    shown,
    summary,
)

_LARGEST = float(np.finfo(np.float32).max)
_LARGEST_WHOLE = 1e15
"""Largest whole number of which a class is named; below it a float is exact."""
_ROWS, _EXAMPLES = 3, 5
_MANY_CLASSES = 20


def inspect(file: BufferedIOBase, options: ReadOptions = READ_DEFAULTS) -> Summary:
    """Read every row. Raises `DatasetFileError` with the number of the line at fault."""
    table = _Table(file, options)
    counts: dict[str, int] = {}
    rows: list[TableRow] = []
    for name, values in table.rows():
        counts[name] = counts.get(name, 0) + 1
        if len(rows) < _ROWS:
            rows.append(TableRow(shown(name), tuple(values[:MAX_ROW_VALUES])))
    layout = table.layout
    reading = Reading(
        column_name(layout.names, layout.label),
        tuple(column_name(layout.names, i) for i in layout.inputs[:MAX_NAMES]),
        tuple(column_name(layout.names, i) for i in layout.left_out[:MAX_NAMES]),
        tuple(rows),
    )
    return summary(
        "vector", (len(layout.inputs),), counts, table.warnings(len(counts), sum(counts.values())), reading
    )


def load(file: BufferedIOBase, source: str, options: ReadOptions = READ_DEFAULTS) -> ClassDataset:
    """Load vectors as float32 [n, d]; classes in the order of their names. Raises `DatasetFileError`."""
    found: dict[str, int] = {}
    labels, numbers = array("q"), array("f")
    for name, values in _Table(file, options).rows():
        labels.append(found.setdefault(name, len(found)))
        numbers.extend(values)
    names = sorted(found)
    summary("vector", None, dict.fromkeys(names, 1))
    rank = {found[name]: position for position, name in enumerate(names)}
    order = np.array([rank[index] for index in range(len(found))], dtype=np.int64)
    inputs = np.frombuffer(numbers, np.float32).reshape(len(labels), -1)
    return ClassDataset(
        source,
        torch.from_numpy(inputs.copy()),
        torch.from_numpy(order[np.frombuffer(labels, np.int64)]),
        tuple(names),
        torch.zeros(len(names), dtype=torch.long),
    )


class _Changes:
    """Count and first examples of labels that were changed."""

    def __init__(self) -> None:
        self.count = 0
        self._examples: list[str] = []

    def add(self, text: str) -> None:
        self.count += 1
        if len(self._examples) < _EXAMPLES and shown(text) not in self._examples:
            self._examples.append(shown(text))

    def warning(self, code: str, detail: str) -> FileWarning:
        return FileWarning(code, detail, self.count, tuple(self._examples))


class _Table:
    """The rows of a file in its layout, and a count of every change made to their labels."""

    def __init__(self, file: BufferedIOBase, options: ReadOptions) -> None:
        self.layout: CsvLayout = find_layout(file, options.label)
        self._explicit = options.label is not None
        self._file = file
        self._decimal = self.layout.decimal
        self._trimmed, self._renamed = _Changes(), _Changes()
        self._names: dict[str, str] = {}
        """Labels by their text without the spaces around it."""
        self._blank = 0

    def rows(self) -> Iterator[tuple[str, list[float]]]:
        """Yield label and numbers of each row. Raises `DatasetFileError`."""
        layout, count = self.layout, 0
        header = layout.header
        for row in read_rows(self._file, layout.delimiter):
            if row.blank:
                self._blank += 1
                continue
            check_width(row, len(layout.names))
            if header:
                header = False
                continue
            count += 1
            check_examples(count)
            name = self._label(row)
            if self._names.setdefault(name.strip(), name) != name:
                detail = f"The label {shown(name)!r} differs from another only in the spaces around it."
                raise DatasetFileError("duplicate_label", detail, row.where)
            check_classes(len(self._names))
            for position in layout.empty:
                if row.cells[position]:
                    detail = f"Column {position} has no name and is empty in the first rows, but not here."
                    raise DatasetFileError("csv_header", detail, row.where)
            yield name, self._values(row)

    def warnings(self, classes: int, examples: int) -> tuple[FileWarning, ...]:
        """Return the warnings about the file, once all rows are read."""
        found = list(self.layout.warnings)
        if self._decimal == ",":
            detail = "Numbers are read with a decimal comma: 1,5 is one and a half."
            found.append(FileWarning("csv_decimal_comma", detail, 1))
        if self._trimmed.count:
            detail = "Spaces around the labels are left out: ' a' and 'a' are one class."
            found.append(self._trimmed.warning("label_trimmed", detail))
        if self._renamed.count:
            detail = "Labels that are whole numbers are written without a fraction: 1.0 and 1 are one class."
            found.append(self._renamed.warning("label_renamed", detail))
        if self.layout.whole_labels and classes > max(_MANY_CLASSES, examples // 2):
            detail = f"The labels are {classes} numbers in {examples} rows: measurements are no classes."
            found.append(FileWarning("label_many_classes", detail, classes))
        if self._blank:
            found.append(FileWarning("csv_blank_rows", "Rows without content are left out.", self._blank))
        return tuple(found)

    def _label(self, row: Row) -> str:
        position = self.layout.label
        text = row.cells[position]
        if row.raw[position] != text:
            self._trimmed.add(row.raw[position])
        if not self.layout.whole_labels:
            return label(text, row.where)
        value = number_of(text, None)
        if text.lower() in MISSING:
            raise DatasetFileError("invalid_label", "The label is missing.", row.where)
        if value is None or abs(value) > _LARGEST_WHOLE:
            return label(text, row.where)
        if not value.is_integer():
            if self._explicit:
                return label(text, row.where)
            detail = f"The label {shown(text)} has a fraction; the labels before it are whole numbers."
            raise DatasetFileError("ambiguous_label_column", detail, row.where)
        plain = text if text.isdecimal() else str(int(value))
        if plain != text:
            self._renamed.add(text)
        return label(plain, row.where)

    def _values(self, row: Row) -> list[float]:
        if self._decimal == ".":
            cells = [row.cells[position] for position in self.layout.inputs]
            with suppress(ValueError):
                values = list(map(float, cells))
                if all(abs(value) <= _LARGEST for value in values) and "_" not in ",".join(cells):
                    return values
        return [self._number(row, position) for position in self.layout.inputs]

    def _number(self, row: Row, position: int) -> float:
        cell = row.cells[position]
        value = number_of(cell, self._decimal)
        if value is None:
            name = column_name(self.layout.names, position)
            found = f"holds {shown(cell)!r}, which is no number" if cell else "is empty"
            detail = f"The column {name} {found}; a column beside the label holds numbers only."
            raise DatasetFileError("not_a_number", detail, row.where)
        if not abs(value) <= _LARGEST:
            detail = "The row holds NaN, an infinite number or one too large for 32 bits."
            raise DatasetFileError("not_finite", detail, row.where)
        if self._decimal is None and not cell.isdecimal():
            # The first fraction of the file decides.
            self._decimal = "," if "," in cell else "." if "." in cell else None
        return value
