"""Tables of other packages are taken as their rows, never by the names of their columns; what is empty is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hyperserve import inputs
from hyperserve.errors import ArgumentTypeError, InvalidArgumentError

ROWS = [[0.0, 1.0], [2.0, 3.0]]
WIRES = [{"vector": row} for row in ROWS]


class Series:
    """A column as pandas has it: a type of its own, with an index."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.dtype = self._values.dtype
        self.ndim, self.shape = 1, self._values.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)


class Frame:
    """A table as pandas, polars and pyarrow have it: a loop yields the names of the columns."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)
        self.columns = [f"column {position}" for position in range(self._values.shape[1])]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


class PandasFrame(Frame):
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._values


class OtherFrame(Frame):
    def to_numpy(self) -> Any:
        return self._values


class LazyFrame(Frame):
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("collect it first")


FRAMES = [PandasFrame, OtherFrame]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, object])
def test_queries_are_the_rows_of_a_table(frame: type, dtype: type) -> None:
    assert inputs.queries(frame(np.array(ROWS, dtype))) == WIRES


@pytest.mark.parametrize("frame", FRAMES)
def test_examples_and_targets_are_the_rows_of_a_table(frame: type) -> None:
    table = frame(ROWS)
    assert inputs.support({"a": table, "b": Series([[9.0, 9.0]])}) == {
        "a": WIRES,
        "b": [{"vector": [9.0, 9.0]}],
    }
    assert inputs.targets(table) == ROWS
    assert inputs.targets(Series([1, 2])) == [[1.0], [2.0]]
    pairs = [(Series(row), name) for row, name in zip(ROWS, "ab", strict=True)]
    assert inputs.support(pairs) == [
        {"input": wire, "label": name} for wire, name in zip(WIRES, "ab", strict=True)
    ]


def test_a_series_is_a_vector_or_a_list_of_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    assert inputs.encode(Series([1, 2])) == {"vector": [1.0, 2.0]}
    assert inputs.queries(Series([1, 2])) == [{"vector": [1.0]}, {"vector": [2.0]}]
    assert inputs.queries(Series(np.array([str(tmp_path / "a.png")], object))) == [{"image": "cG5n"}]


EMPTY = BytesIO(b"png")
EMPTY.read()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([PandasFrame(ROWS)], TypeError, "query 0: PandasFrame is a table, not one input"),
        (
            PandasFrame(np.array([[1, "x"]], object)),
            TypeError,
            "query 0: a vector must hold numbers, not str at 1",
        ),
        (PandasFrame([[1.0], [np.nan]]), ValueError, "query 1: nan at 0 is not finite"),
        (LazyFrame(ROWS), TypeError, "query: LazyFrame cannot become an array: collect it first"),
        ({"a": 1}, TypeError, "query: expected a list of inputs, not a single dict"),
        ({1.0, 2.0}, TypeError, "query: a set has no order"),
        (BytesIO(b"png"), TypeError, "query: expected a list of inputs, not a single BytesIO"),
        (PandasFrame, TypeError, "query: expected a list of inputs, not a single type"),
        (object(), TypeError, "query: expected a list of inputs, not a single object"),
        ([EMPTY], ValueError, "query 0: 0 bytes read: the file is empty or at its end; rewind it by seek(0)"),
        ([b""], ValueError, "query 0: 0 bytes do not make an image"),
        ([{"image": ""}], ValueError, "query 0: 0 bytes do not make an image"),
        ([Image.new("L", (0, 4))], ValueError, "query 0: the image has no pixels: 0 x 4"),
    ],
)
def test_odd_queries_are_named(values: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        inputs.queries(values)


@pytest.mark.parametrize("examples", [PandasFrame(ROWS), OtherFrame(ROWS), Series([1, 2])])
def test_a_table_alone_is_no_support_set(examples: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^support: \w+ has no labels; give rows by class"):
        inputs.support(examples)


@pytest.mark.parametrize("values", ["12", {"a": 1.0}, 7])
def test_targets_are_a_list(values: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^targets: expected a list"):
        inputs.targets(values)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    with pytest.raises(InvalidArgumentError, match=r"^query 0: the file '.*a\.png' is empty \(0 bytes\)"):
        inputs.queries([path])


def test_tables_of_pandas_and_polars() -> None:
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    frame = pandas.DataFrame(ROWS, columns=["w", "x"], index=["r", "s"])
    assert inputs.queries(frame) == inputs.queries(polars.from_pandas(frame)) == WIRES
    assert inputs.queries(row for _, row in frame.iterrows()) == WIRES
