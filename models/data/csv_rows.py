"""Lines of a CSV as rows of cells: UTF-8, RFC 4180 quotes, one row per line; commas, semicolons or tabs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase

from models.data.errors import DatasetFileError

COMMA, SEMICOLON, TAB = ",", ";", "\t"
DELIMITERS = {COMMA: "a comma", SEMICOLON: "a semicolon", TAB: "a tab"}
MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "?"})
"""Cells, in lower case, that stand for a missing number."""
_LINE_BYTES = 1 << 20
_DELIMITER_LINE = re.compile(r"sep=([,;\t])", re.IGNORECASE)
"""The first line by which Excel is told the delimiter."""
_BINARY = {
    b"PK\x03\x04": "an Excel workbook or another zip archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x1f\x8b": "compressed by gzip",
    b"PAR1": "Parquet",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_QUOTED_CELL = {
    delimiter: re.compile(rf'[ ]*"((?:[^"]|"")*+)"[ ]*(?={re.escape(delimiter)}|$)')
    for delimiter in DELIMITERS
}

_SPACES = {COMMA: re.compile(r"\s"), SEMICOLON: re.compile(r"\s"), TAB: re.compile(r"[^\S\t]")}


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of one line, without the spaces around them unless they are quoted."""

    line: int
    cells: list[str]
    raw: Sequence[str]
    """Cells with the spaces around them."""
    exact: Sequence[bool] = ()
    """True for cells in quotes, if quotes tell texts from numbers; empty if they tell nothing."""

    @property
    def where(self) -> str:
        return f"line {self.line}"

    @property
    def blank(self) -> bool:
        """Return True if no cell holds anything, as in the rows that spreadsheets leave below a table."""
        return not any(self.cells)


def read_lines(file: BufferedIOBase) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not empty. Raises `DatasetFileError` csv_grammar, invalid_utf8."""
    file.seek(0)
    number = 0
    while data := file.readline(_LINE_BYTES):
        number += 1
        where = f"line {number}"
        if number == 1:
            _check_first_bytes(data)
        if len(data) == _LINE_BYTES:
            detail = f"The line has {_LINE_BYTES} bytes or more."
            raise DatasetFileError("csv_grammar", detail, where, _LINE_BYTES)
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            detail = "The line is not UTF-8; save the file as CSV in UTF-8."
            raise DatasetFileError("invalid_utf8", detail, where) from error
        text = text.removesuffix("\n").removesuffix("\r")
        if "\0" in text or "\r" in text:
            found = "a NUL character" if "\0" in text else "a carriage return that does not end it"
            raise DatasetFileError("csv_grammar", f"The line holds {found}.", where)
        if text.strip(" "):
            yield number, text


def read_rows(file: BufferedIOBase, delimiter: str) -> Iterator[Row]:
    """Yield the rows, without a line `sep=`. Raises `DatasetFileError` with the line at fault."""
    for number, text in read_lines(file):
        if number > 1 or _DELIMITER_LINE.fullmatch(text) is None:
            yield split_row(number, text, delimiter)


def split_row(line: int, text: str, delimiter: str) -> Row:
    """Return the cells of a line. Raises `DatasetFileError` csv_grammar."""
    if '"' not in text:
        raw = text.split(delimiter)
        return Row(line, [cell.strip() for cell in raw] if _SPACES[delimiter].search(text) else raw, raw)
    cells: list[str] = []
    raw, quoted = [], []
    start = 0
    while start <= len(text):
        if (match := _QUOTED_CELL[delimiter].match(text, start)) is not None:
            end = match.end()
            cells.append(match[1].replace('""', '"'))
        else:
            end = text.find(delimiter, start)
            end = len(text) if end < 0 else end
            cells.append(text[start:end].strip())
            if cells[-1].startswith('"'):
                raise _quote_error(line, text, start)
        quoted.append(match is not None)
        raw.append(cells[-1] if match is not None else text[start:end])
        start = end + 1
    if all(quoted):
        return Row(line, [cell.strip() for cell in cells], cells)
    return Row(line, cells, raw, quoted)


def find_delimiter(lines: Sequence[tuple[int, str]]) -> str:
    """Return the delimiter of the first lines of a file. Raises `DatasetFileError` csv_columns."""
    first_line, first = lines[0]
    if first_line == 1 and (declared := _DELIMITER_LINE.fullmatch(first)) is not None:
        return declared[1]
    # If two fit alike, as in a;1,5, the comma marks fractions.
    possible = [delimiter for delimiter in (TAB, SEMICOLON, COMMA) if delimiter in first]
    if not possible:
        detail = "The row has one cell; cells are separated by commas, semicolons or tabs."
        raise DatasetFileError("csv_columns", detail, f"line {first_line}")
    return max(possible, key=lambda delimiter: _fit(lines, delimiter)) if len(possible) > 1 else possible[0]


def number_of(cell: str, decimal: str | None) -> float | None:
    """Return a cell as a number, or None if it is none. If `decimal` is None, a comma or a point may be the mark."""
    if "," in cell:
        if decimal == "." or "." in cell or cell.count(",") > 1:
            return None
        cell = cell.replace(",", ".")
    elif decimal == "," and "." in cell:
        return None
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _fit(lines: Sequence[tuple[int, str]], delimiter: str) -> tuple[bool, float, float]:
    """Return a measure of how well a delimiter explains lines: numbers, rows of one width, few texts."""
    rows = []
    for line, text in lines:
        try:
            rows.append(split_row(line, text, delimiter).cells)
        except DatasetFileError:
            continue
    if not rows or len(rows[0]) < 2:
        return False, 0.0, 0.0
    same = [cells for cells in rows if len(cells) == len(rows[0])]
    below = same[1:] or same
    numeric = [all(_numeric(cells[column]) for cells in below) for column in range(len(rows[0]))]
    return any(numeric), len(same) / len(lines), sum(numeric) / len(numeric)


def _numeric(cell: str) -> bool:
    return cell.lower() in MISSING or number_of(cell, None) is not None


def _check_first_bytes(data: bytes) -> None:
    for start, kind in _BINARY.items():
        if data.startswith(start):
            detail = f"The file is {kind}, not text; save it as CSV in UTF-8."
            raise DatasetFileError("csv_grammar", detail, "line 1")
    if data.startswith(_UTF16):
        raise DatasetFileError("invalid_utf8", "The file is UTF-16; save it as CSV in UTF-8.", "line 1")


def _quote_error(line: int, text: str, start: int) -> DatasetFileError:
    if text.count('"', start) % 2:
        detail = "A quoted cell goes on to the next line."
    else:
        detail = "The row breaks the CSV grammar (RFC 4180): text follows a closing quote."
    return DatasetFileError("csv_grammar", detail, f"line {line}")
