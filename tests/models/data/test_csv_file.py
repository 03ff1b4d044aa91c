"""Vectors as text."""

from __future__ import annotations

import io

import pytest

from models.data import csv_file
from models.data.errors import DatasetFileError


@pytest.mark.parametrize(
    "text",
    [
        "cat,1,2\ndog,3,4\ncat,5,6\n",
        "name,x,y\ncat,1,2\ndog,3,4\ncat,5,6",
        "\ufefflabel,0,1\r\ncat,1,2\r\n\r\ndog,3,4\r\ncat,5,6\r\n",
        'x,Label,y\n1,"cat",2\n3,dog,4\n5.0,cat,6e0\n',
    ],
)
def test_the_header_is_optional(text: str) -> None:
    file = io.BytesIO(text.encode())
    found = csv_file.inspect(file)
    assert (found.kind, found.shape, found.classes) == ("vector", (2,), {"cat": 2, "dog": 1})
    data = csv_file.load(file, "v")
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [0, 1, 0]
    assert data.inputs.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        (b"cat,1,2\ndog,3\n", "csv_columns", "line 2"),
        (b"cat\ndog\n", "csv_columns", "line 1"),
        (b"cat," + b"1," * 8192 + b"1\n", "csv_columns", "line 1"),
        (b"cat,1,2\n\ndog,3,x\n", "not_a_number", "line 3"),
        (b"cat,1,2\ndog,3,\n", "not_a_number", "line 2"),
        (b"cat,1,2\ndog,3,1_0\n", "not_a_number", "line 2"),
        (b"cat,1,2\ndog,3,nan\n", "not_finite", "line 2"),
        (b"cat,1,2\ndog,3,-inf\n", "not_finite", "line 2"),
        (b"cat,1,2\ndog,3,1e39\n", "not_finite", "line 2"),
        (b"cat,1,2\n,3,4\n", "invalid_label", "line 2"),
        (b'cat,1,2\n"a\nb",3,4\n', "csv_grammar", "line 2"),
        (b'"cat","1\n","2\n"\ndog,3,4\n', "csv_grammar", "line 1"),
        (b'cat,1,2\n"dog"x,3,4\n', "csv_grammar", "line 2"),
        (b"cat,1,2\ndog\0,3,4\n", "csv_grammar", "line 2"),
        (b"cat,1,2\nd\xffg,3,4\n", "invalid_utf8", "line 2"),
        (b"cat,1,2\n" + b"x" * (2 << 20), "csv_grammar", "line 2"),
        (b"cat,1,2\ncat,3,4\n", "too_few_classes", None),
        (b"label,x\n", "too_few_classes", None),
        (b"\n\n", "too_few_classes", None),
    ],
)
def test_the_line_at_fault_is_named(text: bytes, code: str, where: str | None) -> None:
    for reading in (csv_file.inspect, lambda file: csv_file.load(file, "v")):
        with pytest.raises(DatasetFileError) as caught:
            reading(io.BytesIO(text))
        assert (caught.value.code, caught.value.where) == (code, where)


def test_a_quote_that_never_ends_is_not_collected() -> None:
    with pytest.raises(DatasetFileError) as caught:
        csv_file.inspect(io.BytesIO(b'cat,1,2\n"dog,' + b"3,4\n" * 200_000))
    assert caught.value.code == "csv_grammar"
