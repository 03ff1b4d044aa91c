"""Layout of a CSV by its first rows: delimiter, header, label column, columns of the inputs, decimal mark.

A label column is found by its name or, if exactly one column holds text, by that. An index, as pandas writes it, is
left out. A layout that is not plain is refused with the candidates; `ReadOptions.label` decides then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from typing import Literal

from models.data.csv_rows import (
    COMMA,
    DELIMITERS,
    MISSING,
    Row,
    find_delimiter,
    number_of,
    read_lines,
    read_rows,
)
from models.data.errors import DatasetFileError, FileWarning, shown, too_few_classes
from models.inputs.raw import MAX_VECTOR

_BASE_NAMES = ("label", "labels", "class", "classes", "target", "targets", "species", "category")
LABEL_NAMES = frozenset((*_BASE_NAMES, "class_label", "class_name", "label_name", "target_name"))
"""Names by which a column is the label, in lower case with underscores; `y` is one if nothing speaks against it."""
_INDEX_NAMES = frozenset(("id", "index", "idx", "row", "row_id", "row_number", "rownames", "row_names"))
_PANDAS_INDEX = re.compile(r"unnamed: \d+(\.\d+)*")
_SAMPLE_ROWS, _SAMPLE_CHARACTERS = 1_000, 1 << 20
_CANDIDATES = 20
"""Columns that a message names."""
_COUNTED_ROWS = 3
"""Rows from which on numbers that grow by one look like row numbers."""
_NO_WORDS = re.compile(r"[^\w]+")


@dataclass(frozen=True)
class CsvLayout:
    """Use of every column. Positions count from 0."""

    delimiter: str
    decimal: str | None
    """Mark of fractions; None if the first rows have none, so that the first fraction decides."""
    header: bool
    names: tuple[str, ...]
    """Names of the columns, or their positions if there is no header."""
    label: int
    whole_labels: bool
    """True if labels are whole numbers: 1 and 1.0 are one class then."""
    inputs: tuple[int, ...]
    empty: tuple[int, ...]
    """Columns without a name that must hold nothing."""
    left_out: tuple[int, ...]
    warnings: tuple[FileWarning, ...]


@dataclass(frozen=True)
class _Column:
    """Cells of a column below the first row of the file."""

    cells: Sequence[str]

    @cached_property
    def values(self) -> list[float | None]:
        """Return the numbers, and None for texts; missing cells are left out."""
        return [number_of(cell, None) for cell in self.cells if cell.lower() not in MISSING]

    @cached_property
    def kind(self) -> Literal["empty", "number", "text", "mixed"]:
        numbers = sum(value is not None for value in self.values)
        if not self.values:
            return "empty"
        return "number" if numbers == len(self.values) else "mixed" if numbers else "text"

    @property
    def numbers(self) -> list[float]:
        return [value for value in self.values if value is not None]

    @cached_property
    def whole(self) -> bool:
        return all(value.is_integer() for value in self.numbers)

    @property
    def identifies(self) -> bool:
        """Return True if every row has a whole number of its own."""
        return self.kind == "number" and self.whole and len(set(self.numbers)) == len(self.cells)


def find_layout(file: BufferedIOBase, label: str | None = None) -> CsvLayout:
    """Read the first rows. Raises `DatasetFileError` with the line at fault, or with the candidates for the label."""
    delimiter, rows = _sample(file)
    first, columns = rows[0], _columns(rows[1:], len(rows[0].cells))
    if len(rows) == 1:
        raise too_few_classes(0 if _label_in(first, label) or not _numbers(first) else 1)
    header, warnings = _has_header(first, columns, label)
    if not header:
        columns = _columns(rows, len(first.cells))
    names = tuple(first.cells) if header else tuple(map(str, range(len(columns))))
    chosen = _label_column(names, columns, header, label)
    exact = any(row.exact[chosen] for row in rows[int(header) :] if row.exact)
    if label is None and not exact:
        _check_classes(columns[chosen], names, chosen)
    left_out, empty = _left_out(names, columns, chosen) if header else ([], [])
    inputs = [i for i in range(len(columns)) if i != chosen and i not in left_out]
    if not 1 <= len(inputs) <= MAX_VECTOR:
        raise _wrong_width(first, len(inputs))
    decimal = _decimal_mark([columns[i] for i in inputs], delimiter, rows)
    warnings += _index_warnings(names, columns, left_out, empty, inputs, header)
    return CsvLayout(
        delimiter=delimiter,
        decimal=decimal,
        header=header,
        names=names,
        label=chosen,
        whole_labels=not exact and columns[chosen].kind == "number" and columns[chosen].whole,
        inputs=tuple(inputs),
        empty=tuple(empty),
        left_out=tuple(left_out),
        warnings=tuple(warnings),
    )


def check_width(row: Row, width: int) -> None:
    """Raise `DatasetFileError` csv_columns unless the row has as many cells as the first."""
    if len(row.cells) != width:
        detail = f"The row has {len(row.cells)} columns where the first has {width}."
        raise DatasetFileError("csv_columns", detail, row.where, width)


def column_name(names: Sequence[str], position: int) -> str:
    """Return the name of a column for messages and answers."""
    return shown(names[position]) or f"(column {position}, without a name)"


def _sample(file: BufferedIOBase) -> tuple[str, list[Row]]:
    """Return the delimiter and the first rows that hold something, of one width."""
    lines, characters = [], 0
    for line in read_lines(file):
        lines.append(line)
        characters += len(line[1])
        if len(lines) >= _SAMPLE_ROWS or characters >= _SAMPLE_CHARACTERS:
            break
    if not lines:
        raise too_few_classes(0)
    delimiter = find_delimiter(lines)
    rows: list[Row] = []
    for row in read_rows(file, delimiter):
        if row.line > lines[-1][0]:
            break
        if not row.blank:
            if not rows:
                unnamed = row.cells.count("")
                if not 2 <= len(row.cells) <= MAX_VECTOR + 1 + unnamed:
                    raise _wrong_width(row, len(row.cells) - 1)
            check_width(row, len((rows or [row])[0].cells))
            rows.append(row)
    if not rows:
        raise too_few_classes(0)
    return delimiter, rows


def _wrong_width(row: Row, count: int) -> DatasetFileError:
    detail = (
        f"A row holds a label and 1 to {MAX_VECTOR} numbers, separated by {' or '.join(DELIMITERS.values())}; "
        f"here are {max(count, 0)} columns beside the label."
    )
    return DatasetFileError("csv_columns", detail, row.where, MAX_VECTOR + 1)


def _columns(rows: Sequence[Row], width: int) -> list[_Column]:
    return [_Column([row.cells[position] for row in rows]) for position in range(width)]


def _normal(name: str) -> str:
    return _NO_WORDS.sub("_", name.strip().lower()).strip("_")


def _numbers(row: Row) -> list[int]:
    """Return the positions of numbers in a row."""
    return [
        position
        for position, cell in enumerate(row.cells)
        if cell.lower() not in MISSING and number_of(cell, None) is not None
    ]


def _label_in(first: Row, label: str | None) -> bool:
    """Return True if the row has a cell that names the label column."""
    if label is not None:
        return not _is_position(label) and label.strip() in first.cells
    return any(_normal(cell) in LABEL_NAMES for cell in first.cells)


def _has_header(first: Row, columns: Sequence[_Column], label: str | None) -> tuple[bool, list[FileWarning]]:
    """Tell a header from a row of data. Raises `DatasetFileError` csv_header if it may be either."""
    numbers = _numbers(first)
    if not numbers:
        return True, []
    guessed = FileWarning(
        "csv_header", "The first row is read as the names of the columns, although it holds numbers.", 1
    )
    if label is not None and _label_in(first, label):
        return True, [guessed]
    named = [i for i, cell in enumerate(first.cells) if _normal(cell) in LABEL_NAMES]
    if any(first.cells[i] not in columns[i].cells for i in named):
        return True, [guessed]
    counted = [first.cells[i] for i in numbers] == [str(i) for i in range(len(numbers))]
    texts = [i for i, cell in enumerate(first.cells) if i not in numbers and cell]
    if not texts:
        if not any(columns[i].kind == "text" for i in numbers):
            if counted and len(numbers) > 2:
                raise _unclear_header(first)
            return False, []
        if counted:
            return True, [guessed]
        raise _unclear_header(first)
    if any(columns[i].kind == "number" for i in texts):
        raise _unclear_header(first)
    once = all(first.cells[i] not in columns[i].cells for i in texts)
    repeated = any(len(set(columns[i].cells)) < len(columns[i].cells) for i in texts)
    if counted and len(numbers) > 1 and once and repeated:
        raise _unclear_header(first)
    return False, []


def _unclear_header(first: Row) -> DatasetFileError:
    detail = (
        "The first row may be a header or data: it holds numbers, but not only where the rows below have them. "
        "Put a header above it, or give every column a name that is not a number."
    )
    return DatasetFileError("csv_header", detail, first.where)


def _label_column(names: Sequence[str], columns: Sequence[_Column], header: bool, label: str | None) -> int:
    """Return the position of the label. Raises `DatasetFileError` unknown_label_column, ambiguous_label_column."""
    if label is not None:
        return _chosen_column(names, header, label)
    normal = [_normal(name) for name in names] if header else [""] * len(names)
    named = [i for i, name in enumerate(normal) if name in LABEL_NAMES]
    if len(named) == 1:
        return named[0]
    if named:
        raise _unclear_label(names, named, "several columns have such a name")
    texts = [i for i, column in enumerate(columns) if column.kind == "text"]
    # Next to x and others, y is a coordinate.
    ys = [] if "x" in normal and len(columns) > 2 else [i for i, name in enumerate(normal) if name == "y"]
    candidates = sorted({*texts, *ys})
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise _unclear_label(names, candidates, "several columns may be it")
    # Class names such as 1, 2 and b; a fraction among texts is a mistake in a column of numbers instead.
    mixed = [i for i, column in enumerate(columns) if column.kind == "mixed" and column.whole]
    if len(mixed) == 1:
        return mixed[0]
    reason = "no column is named label, class, target or species, and none holds text"
    raise _unclear_label(names, range(len(columns)), reason)


def _is_position(label: str) -> bool:
    return label.strip().removeprefix("-").isdecimal()


def _chosen_column(names: Sequence[str], header: bool, label: str) -> int:
    wanted = label.strip()
    found = [i for i, name in enumerate(names) if name == wanted] if header else []
    if header and not found:
        found = [i for i, name in enumerate(names) if name.casefold() == wanted.casefold()]
    if not found and _is_position(wanted) and -len(names) <= int(wanted) < len(names):
        return int(wanted) % len(names)
    if len(found) == 1:
        return found[0]
    reason = "Several columns have this name" if found else "The file has no such column"
    listed = _listed(names, range(len(names)))
    detail = f"{reason}: {shown(wanted)!r}. Choose by name or position (from 0); the columns are {listed}."
    raise DatasetFileError("unknown_label_column", detail, "label")


def _unclear_label(names: Sequence[str], candidates: Iterable[int], reason: str) -> DatasetFileError:
    detail = (
        f"Choose the label column with the option label, by name or position (from 0), or name it label in the "
        f"file: {reason}. Candidates: {_listed(names, candidates)}."
    )
    return DatasetFileError("ambiguous_label_column", detail, "label")


def _listed(names: Sequence[str], positions: Iterable[int]) -> str:
    every = list(positions)
    listed = ", ".join(column_name(names, i) for i in every[:_CANDIDATES])
    return f"{listed} and {len(every) - _CANDIDATES} more" if len(every) > _CANDIDATES else listed


def _check_classes(column: _Column, names: Sequence[str], label: int) -> None:
    """Refuse a label column of measurements."""
    if column.kind == "number" and not column.whole:
        fraction = next(value for value in column.numbers if not value.is_integer())
        raise _unclear_label(
            names,
            [i for i in range(len(names)) if i != label] or [label],
            f"{column_name(names, label)} holds numbers with fractions such as {fraction:g}, which name no class",
        )


def _left_out(names: Sequence[str], columns: Sequence[_Column], label: int) -> tuple[list[int], list[int]]:
    """Return the positions of columns to leave out, and those of them that must be empty.

    Raises `DatasetFileError` csv_header for another column without a name.
    """
    left_out, empty = [], []
    for position, (name, column) in enumerate(zip(names, columns, strict=True)):
        if position == label:
            continue
        if not name and column.kind == "empty":
            empty.append(position)
        elif not name and position:
            detail = f"Column {position} has no name; name it, or leave it out of the file."
            raise DatasetFileError("csv_header", detail, "line 1")
        elif (
            not name
            or _PANDAS_INDEX.fullmatch(name.lower())
            or (_normal(name) in _INDEX_NAMES and column.identifies)
        ):
            left_out.append(position)
    return [*left_out, *empty], empty


def _index_warnings(
    names: Sequence[str],
    columns: Sequence[_Column],
    left_out: Sequence[int],
    empty: Sequence[int],
    inputs: Sequence[int],
    header: bool,
) -> list[FileWarning]:
    index = tuple(column_name(names, i) for i in left_out if i not in empty)
    found = []
    if index:
        detail = "Left out as an index of the rows, which says nothing about classes; give it another name to use it."
        found.append(FileWarning("csv_index", detail, len(index), index))
    if empty:
        shown_names = tuple(column_name(names, i) for i in empty[:_CANDIDATES])
        found.append(
            FileWarning("csv_empty_column", "Left out because it is empty.", len(empty), shown_names)
        )
    first = columns[0]
    counted = first.kind == "number" and first.numbers == [float(i) for i in range(len(first.cells))]
    if not header and 0 in inputs and counted and len(first.cells) >= _COUNTED_ROWS:
        detail = "The first column counts the rows and is used as an input; leave it out of the file if it is an index."
        found.append(FileWarning("csv_row_numbers", detail, 1, ("0",)))
    return found


def _decimal_mark(inputs: Sequence[_Column], delimiter: str, rows: Sequence[Row]) -> str | None:
    """Return the mark of fractions. Raises `DatasetFileError` ambiguous_numbers."""
    marks: dict[str, str] = {}
    for column in inputs:
        for cell in column.cells:
            for mark in (",", "."):
                if mark in cell and mark not in marks and number_of(cell, mark) is not None:
                    marks[mark] = cell
    if "," in marks and ("." in marks or delimiter == COMMA):
        where = next(row.where for row in rows if marks[","] in row.cells)
        detail = (
            f"The number {shown(marks[','])!r} is not plain: its comma may mark a fraction or thousands. "
            "Write numbers with a point, or all with a decimal comma and semicolons between the columns."
        )
        raise DatasetFileError("ambiguous_numbers", detail, where)
    return "." if delimiter == COMMA else next(iter(marks), None)
