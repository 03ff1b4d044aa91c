"""Layouts of a CSV: every guess is shown, and what is not plain is refused with the candidates."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data import csv_file
from models.data.errors import DatasetFileError, ReadOptions, Summary
from tests.property import examples


def inspect(text: str, label: str | None = None) -> Summary:
    return csv_file.inspect(io.BytesIO(text.encode()), ReadOptions(label=label))


def codes(summary: Summary) -> list[str]:
    return [warning.code for warning in summary.warnings]


@dataclass(frozen=True)
class Table:
    """A table before it is written."""

    names: list[str]
    labels: list[str]
    rows: list[list[float]]
    position: int
    """Position of the label among the columns."""

    def write(self, dialect: Dialect, label: str) -> bytes:
        out = io.StringIO(newline="")
        writer = csv.writer(
            out, delimiter=dialect.delimiter, lineterminator=dialect.line_end, quoting=dialect.quoting
        )
        if dialect.header:
            writer.writerow(self._row(dialect, "", label, self.names))
        for number, (name, row) in enumerate(zip(self.labels, self.rows, strict=True)):
            cells: list[object] = list(row)
            if dialect.decimal == ",":
                cells = [repr(value).replace(".", ",") for value in row]
            writer.writerow(self._row(dialect, number, name, cells))
        return (dialect.start + out.getvalue()).encode()

    def _row(self, dialect: Dialect, number: object, label: str, cells: list[object]) -> list[object]:
        index = [number] if dialect.index else []
        return [*index, *cells[: self.position], label, *cells[self.position :]]


@dataclass(frozen=True)
class Dialect:
    """Conventions of a program that writes tables."""

    delimiter: str
    decimal: str
    line_end: str
    start: str
    quoting: int
    header: bool
    index: bool


NUMBERS = st.integers(-10_000, 10_000).map(lambda n: n / 100) | st.sampled_from([1.5, -2.25, 1e-3, 12345.5])
TEXTS = st.text(st.characters(codec="utf-8", categories=("L",)), min_size=1, max_size=6).filter(
    lambda text: text.lower() not in ("nan", "inf", "infinity", "na", "none", "null")
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    width = draw(st.integers(1, 4))
    classes = draw(st.lists(TEXTS, min_size=2, max_size=4, unique_by=str.casefold))
    labels = draw(st.lists(st.sampled_from(classes), min_size=3, max_size=12))
    labels += classes
    row = st.lists(NUMBERS, min_size=width, max_size=width)
    rows = draw(st.lists(row, min_size=len(labels), max_size=len(labels)))
    # A fraction in each column, so that no column looks like row numbers.
    rows[0] = [0.5 + column for column in range(width)]
    names = [f"f{column}" for column in range(width)]
    return Table(names, labels, rows, draw(st.integers(0, width)))


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    delimiter, decimal = draw(st.sampled_from([(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ",")]))
    header = draw(st.booleans())
    return Dialect(
        delimiter,
        decimal,
        draw(st.sampled_from(["\n", "\r\n"])),
        draw(st.sampled_from(["", "\ufeff"])),
        # Numbers with a comma are texts to the writer.
        draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        header,
        header and draw(st.booleans()),
    )


@settings(max_examples=examples(150), deadline=None)
@given(tables(), dialects(), st.sampled_from(["label", "Class", "target", "species", "what it is"]))
def test_tables_of_any_program_are_read_as_they_were_written(
    table: Table, dialect: Dialect, label: str
) -> None:
    data = table.write(dialect, label)
    found = csv_file.inspect(io.BytesIO(data))
    assert found.reading is not None
    names = [unicodedata.normalize("NFC", name) for name in table.labels]
    assert found.classes == dict(sorted(Counter(names).items()))
    loaded = csv_file.load(io.BytesIO(data), "t")
    assert [loaded.class_names[index] for index in loaded.labels.tolist()] == names
    np.testing.assert_allclose(loaded.inputs.numpy(), table.rows, rtol=1e-6)
    if dialect.header:
        assert (found.reading.label, list(found.reading.inputs)) == (label, table.names)
    assert ("csv_index" in codes(found)) == dialect.index
    assert ("csv_decimal_comma" in codes(found)) == (dialect.decimal == ",")
    assert [row.label for row in found.reading.rows] == names[:3]


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=2, max_size=8), st.booleans())
def test_numbers_alone_never_become_classes(rows: list[list[float]], header: bool) -> None:
    lines = ["alcohol,ash,colour"] * header + [",".join(map(repr, row)) for row in rows]
    with pytest.raises(DatasetFileError) as caught:
        inspect("\n".join(lines))
    assert caught.value.code == "ambiguous_label_column"
    for name in ("alcohol", "ash", "colour") if header else ("0", "1", "2"):
        assert name in caught.value.detail


@settings(max_examples=examples(60), deadline=None)
@given(tables(), st.booleans(), st.integers(0, 1))
def test_a_chosen_label_is_found_by_name_and_by_position(table: Table, header: bool, last: int) -> None:
    dialect = Dialect(",", ".", "\n", "", csv.QUOTE_MINIMAL, header, False)
    text = table.write(dialect, "kind").decode()
    position = table.position - (len(table.names) + 1 if last else 0)
    choices = [str(position), *(["kind", " KIND "] if header else [])]
    assert all(inspect(text, choice) == inspect(text) for choice in choices)


@pytest.mark.parametrize(
    ("text", "classes", "warned"),
    [
        ("alcohol,ash,target\n14.2,2.4,0\n13.2,2.1,0\n12.1,2.2,1\n", {"0": 2, "1": 1}, []),
        ("12.0,12.1,12.5,class\n5.1,3.5,1.4,0\n4.9,3.0,1.3,1\n", {"0": 1, "1": 1}, ["csv_header"]),
        ("0,1,2,target\n5.1,3.5,1.4,0\n4.9,3.0,1.3,1\n", {"0": 1, "1": 1}, ["csv_header"]),
        ("0,1,2\n5.1,3.5,a\n4.9,3.0,b\n", {"a": 1, "b": 1}, ["csv_header"]),
        (",label,x,y\n0,a,1,2\n1,a,1.1,2\n2,b,3,4\n", {"a": 2, "b": 1}, ["csv_index"]),
        (",x,species\n7,1,a\n3,1,a\n3,2,b\n", {"a": 2, "b": 1}, ["csv_index"]),
        ("Unnamed: 0.1,Unnamed: 0,x,species\n0,7,1,a\n1,3,2,b\n", {"a": 1, "b": 1}, ["csv_index"]),
        ("Id,x,Species\n101,5.1,a\n102,4.9,b\n", {"a": 1, "b": 1}, ["csv_index"]),
        ('"","x","kind"\n"1",5.1,"a"\n"2",4.9,"b"\n', {"a": 1, "b": 1}, ["csv_index"]),
        ("0,1.5,a\n1,1.5,b\n2,1.7,b\n", {"a": 1, "b": 2}, ["csv_row_numbers"]),
        ("label,x\n a,1\na,2\nb ,3\n", {"a": 2, "b": 1}, ["label_trimmed"]),
        ("x, label\n1, a\n2, b\n", {"a": 1, "b": 1}, ["label_trimmed"]),
        ("x,label\n1,0.0\n2,1.0\n3,1\n", {"0": 1, "1": 2}, ["label_renamed"]),
        ("x,label\n1,1e0\n2,2\n", {"1": 1, "2": 1}, ["label_renamed"]),
        ('x,label\n1,"1.0"\n2,"1"\n', {"1": 1, "1.0": 1}, []),
        ('x,label\n1," a"\n2,"b"\n', {" a": 1, "b": 1}, []),
        ("x,win\n1,True\n2,False\n", {"False": 1, "True": 1}, []),
        ("x1,x2,y\n1,0,1\n2,1,0\n", {"0": 1, "1": 1}, []),
        ("label,x,y,\na,1,2,\nb,3,4,\n", {"a": 1, "b": 1}, ["csv_empty_column"]),
        ("label,x\na,1\n,\nb,2\n,\n", {"a": 1, "b": 1}, ["csv_blank_rows"]),
        ("sep=;\nlabel;x\na;1\nb;2\n", {"a": 1, "b": 1}, []),
        ("label;x\na;1\nb;2,5\n", {"a": 1, "b": 1}, ["csv_decimal_comma"]),
        ("a;0,5\na;0,7\nb;0,8\n", {"a": 2, "b": 1}, ["csv_decimal_comma"]),
        ("0,5;a\n0,7;b\n", {"a": 1, "b": 1}, ["csv_decimal_comma"]),
        ("a;b,1\nc;d,2\n", {"a;b": 1, "c;d": 1}, []),
        ("1,0.5\n2,0.7\nb,0.8\n", {"1": 1, "2": 1, "b": 1}, []),
        ("y,5,7\nn,1,2\ny,2,3\n", {"n": 1, "y": 2}, []),
    ],
)
def test_guesses_that_are_plain_are_made_and_shown(
    text: str, classes: dict[str, int], warned: list[str]
) -> None:
    found = inspect(text)
    assert (found.classes, codes(found)) == (classes, warned)


@pytest.mark.parametrize(
    ("text", "code", "where", "detail"),
    [
        ("alcohol,ash,q\n14.2,2.4,0\n13.2,2.1,1\n", "ambiguous_label_column", "label", "alcohol, ash, q"),
        ("x,y,z\n1,0,1\n2,1,0\n", "ambiguous_label_column", "label", "x, y, z"),
        ("name,kind,x\nann,dog,1\nbob,cat,2\n", "ambiguous_label_column", "label", "name, kind"),
        ("label,class,x\na,b,1\nc,d,2\n", "ambiguous_label_column", "label", "label, class"),
        ("a,y,note\n1,0,s\n2,1,t\n", "ambiguous_label_column", "label", "y, note"),
        ("x,y\n1,0.5\n2,1.5\n", "ambiguous_label_column", "label", "fractions such as 0.5"),
        ("x,label\n" + "1,0\n" * 1_200 + "1,0.5\n", "ambiguous_label_column", "line 1202", "fraction"),
        ("400,410,420\n5.1,3.5,a\n4.9,3.0,b\n", "csv_header", "line 1", "header or data"),
        ("a,0,1,2\nb,3,4,5\nb,6,7,8\n", "csv_header", "line 1", "header or data"),
        ("x,label,\n1,a,2\n3,b,4\n", "csv_header", "line 1", "Column 2 has no name"),
        ("label,x,\n" + "a,1,\n" * 1_200 + "b,1,2\n", "csv_header", "line 1202", "Column 2"),
        ('label,x\na,"1,234"\nb,2\n', "ambiguous_numbers", "line 2", "'1,234'"),
        ("label;x\na;1,5\nb;2.5\n", "ambiguous_numbers", "line 2", "'1,5'"),
        ("label;x\na;1.234,5\nb;2,5\n", "not_a_number", "line 2", "column x holds '1.234,5'"),
        ("label;x\n" + "a;1,5\n" * 1_200 + "b;2.5\n", "not_a_number", "line 1202", "column x"),
        ("label,x\na,1\nb,NA\n", "not_a_number", "line 3", "column x holds 'NA'"),
        ("label,x\na,1\nb,\n", "not_a_number", "line 3", "column x is empty"),
        ('x,label\n1.5," a"\n2,"a"\n', "duplicate_label", "line 3", "only in the spaces"),
        ("x,label\n1,0\n2,1\n3,\n", "invalid_label", "line 4", "missing"),
        ("\u00e4".encode("utf-16").decode("latin-1"), "invalid_utf8", "line 1", "UTF-8"),
    ],
)
def test_layouts_that_are_not_plain_are_refused(text: str, code: str, where: str, detail: str) -> None:
    encoding = "latin-1" if text.startswith("\xff") else "utf-8"
    with pytest.raises(DatasetFileError) as caught:
        csv_file.inspect(io.BytesIO(text.encode(encoding)))
    assert (caught.value.code, caught.value.where) == (code, where)
    assert detail in caught.value.detail


@pytest.mark.parametrize(
    ("start", "kind"), [(b"PK\x03\x04", "Excel"), (b"\xd0\xcf\x11\xe0", "Excel"), (b"\x1f\x8b", "gzip")]
)
def test_files_of_other_kinds_are_named(start: bytes, kind: str) -> None:
    with pytest.raises(DatasetFileError, match=kind):
        csv_file.inspect(io.BytesIO(start + b"rest"))


@pytest.mark.parametrize(
    ("label", "code"),
    [("nothing", "unknown_label_column"), ("3", "unknown_label_column"), ("-4", "unknown_label_column")],
)
def test_a_choice_that_does_not_exist_lists_the_columns(label: str, code: str) -> None:
    with pytest.raises(DatasetFileError, match="the columns are a, b, c") as caught:
        inspect("a,b,c\n1,2,0\n3,4,1\n", label)
    assert caught.value.code == code


def test_a_chosen_column_may_hold_any_numbers() -> None:
    text = "alcohol,ash\n12.0,1\n12.1,2\n"
    assert inspect(text, "alcohol").classes == {"12.0": 1, "12.1": 1}
    assert inspect(text, "-1").reading == inspect(text, "ash").reading


def test_many_whole_numbers_as_labels_are_pointed_out() -> None:
    text = "x,target\n" + "".join(f"1,{value}\n" for value in range(50))
    assert codes(inspect(text)) == ["label_many_classes"]


def test_the_names_that_an_answer_repeats_are_bounded() -> None:
    wide = ",".join(f"x{column}" for column in range(500))
    row = ",".join(["1.5"] * 500)
    found = inspect(f"label,{wide}\na,{row}\nb,{row}\n")
    assert found.reading is not None
    assert found.shape == (500,)
    assert (len(found.reading.inputs), len(found.reading.rows[0].values)) == (100, 20)
