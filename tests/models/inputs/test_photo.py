"""Any bytes become RGB on a square or an `InputError`, and the pictures that a learner was trained on stay exact."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from models.inputs import ImageBytes, ImageInput, InputError, InputSpec, PhotoInput, Vector, VectorInput
from models.inputs.photo import photo
from tests.models.inputs.pictures import encoded, lossless, lossy, png, rotated
from tests.property import examples

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
SPEC = PhotoInput()
SPECS: TypeAdapter[InputSpec] = TypeAdapter(InputSpec)
NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
UPRIGHT = ("png grey", "png rgb", "png rgba", "png palette", "webp lossless", "bmp", "png 16 bits")


def decode(data: bytes, spec: PhotoInput = SPEC) -> np.ndarray:
    return spec.decode(ImageBytes(data))


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_a_picture_of_the_size_keeps_every_pixel(kind: str) -> None:
    found = decode(encoded(Image.fromarray(NOISE), kind))
    assert (found.shape, found.dtype) == ((3, 32, 32), np.float32)
    assert np.array_equal(np.rint(found * 255).astype(np.uint8), NOISE.transpose(2, 0, 1))
    assert torch.equal(torch.from_numpy(found), photo(torch.from_numpy(NOISE)[None])[0])


def test_the_square_in_the_middle_is_averaged_over_areas() -> None:
    wide = np.zeros((64, 100, 3), np.uint8)
    wide[:, :18] = wide[:, 82:] = 255
    wide[::2, 18:82] = (200, 100, 0)
    found = decode(encoded(Image.fromarray(wide), "PNG"))
    np.testing.assert_allclose(found, np.array([100, 50, 0])[:, None, None] / 255 + np.zeros((3, 32, 32)))


def test_a_larger_size_and_a_smaller_picture() -> None:
    assert decode(encoded(Image.fromarray(NOISE[:5, :7]), "PNG"), PhotoInput(size=48)).shape == (3, 48, 48)


@pytest.mark.parametrize("name", UPRIGHT)
def test_grey_becomes_rgb_and_modes_agree(name: str) -> None:
    reference, found = decode(lossless()["png grey"]), decode(lossless()[name])
    assert np.array_equal(reference[0], reference[2])
    np.testing.assert_allclose(found, reference, atol=1 / 255)


def test_transparency_is_white() -> None:
    nothing = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    assert decode(encoded(nothing, "PNG")).min() == 1.0


def test_colours_are_not_turned_about_as_ink_is() -> None:
    grey = decode(lossless()["png grey"])
    np.testing.assert_allclose(decode(lossless()["inverted"]), 1 - grey, atol=1 / 255)
    assert np.ptp(decode(lossless()["coloured"]).mean((1, 2))) > 0.1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_heeded(orientation: int) -> None:
    assert np.abs(decode(rotated(orientation, "JPEG")) - decode(lossy()["jpeg"])).mean() < 0.03


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_an_image"),
        (b"II*\0" + bytes(40), "unsupported_image_format"),
        (lossless()["png rgb"][:80], "truncated_image"),
        (png(9000, 9000, 1, 0, bytes(1125), rows=9000), "image_too_large"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(InputError) as caught:
        decode(data)
    assert caught.value.code == code


def test_a_vector_is_of_the_wrong_kind() -> None:
    with pytest.raises(InputError, match="takes images, not vectors") as caught:
        SPEC.decode(Vector(np.zeros(3, np.float32)))
    assert caught.value.code == "wrong_kind"


@settings(max_examples=examples(60), deadline=None)
@given(st.sampled_from(sorted({**lossless(), **lossy()}.values())), st.data())
def test_damaged_bytes_are_an_input_error_or_a_picture(data: bytes, draw: st.DataObject) -> None:
    broken = bytearray(data)
    for position in draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=4)):
        broken[position] = draw.draw(st.integers(0, 255))
    try:
        found = decode(bytes(broken))
    except InputError:
        return
    assert found.shape == (3, 32, 32)
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("described", "spec"),
    [
        ({"kind": "image"}, ImageInput()),
        ({"kind": "image", "size": 28, "channels": 1}, ImageInput()),
        ({"kind": "image", "channels": 3}, PhotoInput()),
        ({"kind": "image", "size": 64, "channels": 3}, PhotoInput(size=64)),
        ({"kind": "vector"}, VectorInput()),
    ],
)
def test_channels_tell_photos_from_strokes(described: dict[str, object], spec: InputSpec) -> None:
    assert SPECS.validate_python(described) == spec
    assert SPECS.validate_json(json.dumps(described)) == spec
    assert SPECS.validate_json(SPECS.dump_json(spec)) == spec


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"kind": "sound"},
        {"kind": "image", "channels": 2},
        {"kind": "image", "channels": 3, "crop": True},
        7,
    ],
)
def test_an_input_that_is_not_known_is_refused(described: object) -> None:
    with pytest.raises(ValidationError):
        SPECS.validate_python(described)


def test_pictures_of_strokes_are_described_as_before() -> None:
    assert SPECS.dump_json(ImageInput()) == b'{"kind":"image","size":28,"channels":1}'
