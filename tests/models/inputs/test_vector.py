"""Vectors of finite numbers, of one length in a task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from models.inputs import ImageBytes, InputError, Text, Vector, VectorInput, is_blank
from models.inputs.raw import MAX_VECTOR

ANY = VectorInput()
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def code(values: object, spec: VectorInput = ANY) -> str:
    with pytest.raises(InputError) as caught:
        spec.decode(Vector(np.asarray(values, dtype=np.float32)))
    return caught.value.code


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_finite_vectors_pass_unchanged(values: list[float]) -> None:
    x = ANY.decode(Vector.of(values))
    assert x.dtype == np.float32
    assert x.tolist() == values


@given(arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32)))
def test_only_finite_vectors_pass(values: np.ndarray) -> None:
    vector = Vector(values)
    if values.size and np.isfinite(values).all():
        assert ANY.decode(vector) is not None
    else:
        assert code(values) in {"not_finite", "vector_empty"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(value: float) -> None:
    assert code([0.0, value]) == "not_finite"
    with pytest.raises(InputError) as caught:
        Vector.of([0.0, value])
    assert caught.value.code == "not_finite"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "vector_empty"),
        ([0.0] * (MAX_VECTOR + 1), "vector_too_long"),
        ([1e39], "not_finite"),
        ([10**400], "not_finite"),
        ([-(10**400)], "not_finite"),
        ([True, False], "not_a_number"),
        (["1"], "not_a_number"),
        ([None], "not_a_number"),
        ([[1.0]], "not_a_number"),
    ],
)
def test_plain_numbers_are_checked(values: list[float], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        Vector.of(values)
    assert caught.value.code == expected


def test_the_longest_vector() -> None:
    assert ANY.decode(Vector.of([1] * MAX_VECTOR)).shape == (MAX_VECTOR,)
    assert code(np.zeros(MAX_VECTOR + 1, np.float32)) == "vector_too_long"


def test_one_axis() -> None:
    assert code(np.zeros((2, 2))) == "vector_length"
    assert code(np.zeros(0)) == "vector_empty"


def test_length_is_that_of_the_learner() -> None:
    assert VectorInput(dim=2).decode(Vector.of([1, 2])).shape == (2,)
    with pytest.raises(InputError, match="3 numbers where 2 are expected") as caught:
        VectorInput(dim=2).decode(Vector.of([1, 2, 3]))
    assert caught.value.limit == 2


def test_the_first_vector_binds_the_others_of_its_task() -> None:
    first = ANY.decode(Vector.of([1, 2, 3]))
    assert ANY.like(first) == VectorInput(dim=3)
    assert code([1.0, 2.0], ANY.like(first)) == "vector_length"
    assert VectorInput(dim=3).like(first) == VectorInput(dim=3)


@pytest.mark.parametrize("raw", [Text("cat"), ImageBytes(b"\x89PNG")])
def test_other_kinds_are_refused(raw: Text | ImageBytes) -> None:
    with pytest.raises(InputError, match="takes vectors") as caught:
        ANY.decode(raw)
    assert caught.value.code == "wrong_kind"


def test_a_vector_of_zeros_is_blank() -> None:
    assert is_blank(np.zeros(3, np.float32))
    assert not is_blank(np.full(3, 1e-6, np.float32))


@pytest.mark.parametrize("dim", [0, -1, MAX_VECTOR + 1])
def test_dimensions_are_within_the_limit(dim: int) -> None:
    with pytest.raises(ValidationError):
        VectorInput(dim=dim)
