"""The strict reader agrees with the standard library on all that it takes, and takes less."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.problems import ProblemError
from app.http.strict_json import MAX_DEPTH, parse

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\t\n\r"))
SCALAR = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30)


@given(VALUE, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_takes_what_json_dumps_writes(value: object, ascii: bool, indent: int | str | None) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii, indent=indent).encode()) == value


@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\ud8', max_size=40).map(str.encode)
)
def test_what_it_takes_the_standard_library_takes_too(data: bytes) -> None:
    try:
        value = parse(data)
    except ProblemError:
        return
    assert json.loads(data) == value


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53), min_size=1))
def test_arrays_of_numbers_are_floats(numbers: list[float]) -> None:
    parsed = parse(json.dumps(numbers).encode())
    assert parsed == numbers
    assert isinstance(parsed, list)
    assert {type(number) for number in parsed} == {float}


@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_integers_outside_arrays_are_exact(number: int) -> None:
    assert parse(b'{"a": %d}' % number) == {"a": number}


@pytest.mark.parametrize("depth", [1, MAX_DEPTH])
def test_depth_that_is_allowed(depth: int) -> None:
    assert parse(("[" * depth + "]" * depth).encode()) is not None


def test_surrogate_pairs_are_one_character() -> None:
    assert parse(rb'"\ud83e\udd9c"') == "🦜"


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"1," * 2_000_000 + b"x]",
        b"[" + b"[1," * 31 + b"1," * 500_000 + b"[",
        b'{"a": "' + b"\\n" * 2_000_000 + b'"',
        b"[" + b"1" * 4_000_000,
        b"[" + b"9" * 4_000_000 + b"]",
        b'["' + b"x" * 4_000_000,
        b" " * 4_000_000 + b"x",
        b"{" + b'"a":1,' * 600_000,
        b"".join(b'[{"k%d":' % index for index in range(100_000)),
    ],
)
def test_refusing_is_no_work(data: bytes) -> None:
    """Time is linear in the size of a hostile document, with a small factor."""
    started = time.process_time()
    with pytest.raises(ProblemError):
        parse(data)
    assert time.process_time() - started < 3
