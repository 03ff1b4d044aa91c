"""Vectors as text: a row holds a class label and then numbers; the first row may be a header.

A header has a column `label`, or no number after its first cell; without a column of that name the first is the
label. UTF-8, commas, RFC 4180 quotes; a row is one line.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from io import BufferedIOBase

import numpy as np
import torch

from models.data.dataset import ClassDataset
from models.data.errors import DatasetFileError, Summary, check_classes, check_examples, label, summary
from models.inputs.raw import MAX_VECTOR

_LINE_BYTES = 1 << 20
_LARGEST = float(np.finfo(np.float32).max)
_LABEL_COLUMN = "label"


def inspect(file: BufferedIOBase) -> Summary:
    """Reads every row. Raises `DatasetFileError` with the number of the line at fault."""
    counts: dict[str, int] = {}
    length = 0
    for name, values in _rows(file):
        counts[name] = counts.get(name, 0) + 1
        length = len(values)
    return summary("vector", (length,), counts)


def load(file: BufferedIOBase, source: str) -> ClassDataset:
    """Vectors as float32 [n, d]; classes in the order of their names. Raises `DatasetFileError`."""
    found: dict[str, int] = {}
    labels, numbers = array("q"), array("f")
    for name, values in _rows(file):
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


def _rows(file: BufferedIOBase) -> Iterator[tuple[str, list[float]]]:
    """Label and numbers of each row, all of one length."""
    file.seek(0)
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True)
    column, columns, count = 0, 0, 0
    seen: set[str] = set()
    try:
        for row in reader:
            lines.fresh = True
            if not row:
                continue
            where = f"line {reader.line_num}"
            if columns == 0:
                columns = _columns(row, where)
                if _is_header(row):
                    column = _label_column(row)
                    continue
            if len(row) != columns:
                detail = f"The row has {len(row)} columns where the first has {columns}."
                raise DatasetFileError("csv_columns", detail, where, columns)
            count += 1
            check_examples(count)
            name = label(row[column], where)
            if name not in seen:
                seen.add(name)
                check_classes(len(seen))
            yield name, [_number(cell, where) for cell in (*row[:column], *row[column + 1 :])]
    except csv.Error as error:
        detail = "The row breaks the CSV grammar (RFC 4180)."
        raise DatasetFileError("csv_grammar", detail, f"line {reader.line_num}") from error


class _Lines:
    """Lines as text. A quote that goes on to the next one is refused: a row could grow to the whole file."""

    def __init__(self, file: BufferedIOBase) -> None:
        self.fresh = True
        """Whether a row begins with the next line."""
        self._file = file
        self._number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not (data := self._file.readline(_LINE_BYTES)):
            raise StopIteration
        if not self.fresh:
            detail = "A quoted cell goes on to the next line."
            raise DatasetFileError("csv_grammar", detail, f"line {self._number}")
        self.fresh = False
        self._number += 1
        where = f"line {self._number}"
        if len(data) == _LINE_BYTES:
            detail = f"The line has {_LINE_BYTES} bytes or more."
            raise DatasetFileError("csv_grammar", detail, where, _LINE_BYTES)
        try:
            text = data.decode("utf-8-sig" if self._number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DatasetFileError("invalid_utf8", "The line is not UTF-8.", where) from error
        if "\0" in text:
            raise DatasetFileError("csv_grammar", "The line holds a NUL character.", where)
        return text


def _columns(row: list[str], where: str) -> int:
    if not 2 <= len(row) <= MAX_VECTOR + 1:
        detail = f"A row holds a label and 1 to {MAX_VECTOR} numbers, parted by commas."
        raise DatasetFileError("csv_columns", detail, where, MAX_VECTOR + 1)
    return len(row)


def _is_header(row: list[str]) -> bool:
    """A cell says label, or no cell after the first is a number."""
    if _LABEL_COLUMN in (cell.strip().lower() for cell in row):
        return True
    for cell in row[1:]:
        try:
            float(cell)
        except ValueError:
            continue
        return False
    return True


def _label_column(header: list[str]) -> int:
    names = [cell.strip().lower() for cell in header]
    return names.index(_LABEL_COLUMN) if _LABEL_COLUMN in names else 0


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = None
    if value is None or "_" in cell:
        raise DatasetFileError("not_a_number", "A column beside the label is not a number.", where)
    if not abs(value) <= _LARGEST:
        detail = "The row holds NaN, an infinite number or one too large for 32 bits."
        raise DatasetFileError("not_finite", detail, where)
    return value
