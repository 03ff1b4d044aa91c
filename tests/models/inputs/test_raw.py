"""Stored inputs come back unchanged; bytes that were never stored are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError

from models.inputs import ImageBytes, ImageInput, InputError, InputSpec, Text, Vector, VectorInput, raw_from
from models.inputs.raw import MAX_TEXT

SPEC: TypeAdapter[ImageInput | VectorInput] = TypeAdapter(InputSpec)


@given(st.binary())
def test_images_come_back(data: bytes) -> None:
    assert raw_from("image", ImageBytes(data).to_bytes()) == ImageBytes(data)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_texts_come_back(text: str) -> None:
    assert raw_from("text", Text(text).to_bytes()) == Text(text)


@given(arrays(np.float32, st.integers(0, 9), elements=st.floats(width=32)))
def test_vectors_come_back_bit_for_bit(values: np.ndarray) -> None:
    again = raw_from("vector", Vector(values).to_bytes())
    assert isinstance(again, Vector)
    assert again.values.tobytes() == values.tobytes()
    assert again.values.flags.writeable


@pytest.mark.parametrize(("kind", "data"), [("sound", b""), ("vector", b"abc"), ("text", b"\xff"), ("", b"")])
def test_foreign_bytes_are_refused(kind: str, data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        raw_from(kind, data)
    assert caught.value.code == "wrong_kind"


def test_long_texts_are_refused() -> None:
    assert Text("ü" * MAX_TEXT).to_bytes()
    with pytest.raises(InputError) as caught:
        Text("u" * (MAX_TEXT + 1)).to_bytes()
    assert (caught.value.code, caught.value.limit) == ("text_too_long", MAX_TEXT)


@pytest.mark.parametrize("spec", [ImageInput(), ImageInput(size=84), VectorInput(), VectorInput(dim=7)])
def test_specs_are_data(spec: ImageInput | VectorInput) -> None:
    assert SPEC.validate_json(SPEC.dump_json(spec)) == spec


@pytest.mark.parametrize(
    "described", [{}, {"kind": "sound"}, {"kind": "image", "dim": 3}, {"kind": "vector", "size": 3}]
)
def test_unknown_specs_are_refused(described: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SPEC.validate_python(described)
