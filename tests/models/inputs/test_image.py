"""Any bytes become 28×28 ink or an `InputError` that says why."""

import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.inputs import ImageBytes, ImageInput, InputError, Text, Vector, is_blank
from models.inputs.image import MAX_BYTES, MAX_PIXELS, decode_pixels, pixel_count
from tests.models.inputs.pictures import HEIGHT, WIDTH, drawing, encoded, lossless, lossy, png, rotated
from tests.property import examples

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

SPEC = ImageInput()
LOSSLESS, LOSSY = lossless(), lossy()
VALID = [*LOSSLESS.values(), *LOSSY.values(), rotated(6, "JPEG"), rotated(6, "PNG"), rotated(6, "WEBP")]
BOMB = png(9000, 9000, 1, 0, bytes(1125), rows=9000)
"""81 megapixels in fewer than 20 kB."""


def decode(data: bytes) -> np.ndarray:
    return SPEC.decode(ImageBytes(data))


def refused(data: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        decode(data)
    assert caught.value.detail
    return caught.value


REFERENCE = decode(LOSSLESS["png grey"])


def test_the_reference_is_ink_on_nothing() -> None:
    assert REFERENCE.shape == (1, 28, 28)
    assert REFERENCE.dtype == np.float32
    assert REFERENCE.min() == 0
    assert REFERENCE.max() == pytest.approx(1, abs=1e-6)
    assert 0.05 < REFERENCE.mean() < 0.3


@pytest.mark.parametrize("name", LOSSLESS)
def test_modes_and_polarities_agree(name: str) -> None:
    np.testing.assert_allclose(decode(LOSSLESS[name]), REFERENCE, atol=1e-6)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_nearly_agree(name: str) -> None:
    assert np.abs(decode(LOSSY[name]) - REFERENCE).max() < 0.1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_is_heeded(orientation: int, kind: str) -> None:
    assert np.abs(decode(rotated(orientation, kind)) - REFERENCE).max() < 0.25


def test_unknown_orientation_is_upright() -> None:
    assert np.abs(decode(rotated(77, "PNG")) - REFERENCE).max() < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (28, 28), (255, 300), (4001, 4000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_any_size(size: tuple[int, int], kind: str) -> None:
    image = Image.new("RGB", size, "white")
    image.putpixel((size[0] // 2, size[1] // 2), (0, 0, 0))
    x = decode(encoded(image, kind))
    assert x.shape == (1, 28, 28)
    assert np.isfinite(x).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_large_pictures_look_like_small_ones(kind: str) -> None:
    large = drawing().resize((WIDTH * 50, HEIGHT * 50), Image.Resampling.NEAREST)
    assert np.abs(decode(encoded(large, kind)) - REFERENCE).max() < 0.25
    assert np.abs(decode(encoded(large, kind)) - REFERENCE).mean() < 0.02


def test_large_pictures_are_shrunk_at_once() -> None:
    assert max(decode_pixels(encoded(Image.new("L", (3000, 2000)), "PNG")).shape) < 256


def test_transparent_bands_of_a_large_picture() -> None:
    large = Image.new("LA", (1200, 800), (0, 0))
    large.paste((0, 255), (300, 100, 500, 700))
    pixels = decode_pixels(encoded(large, "PNG"))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[pixels.shape[0] // 2, pixels.shape[1] // 3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("mode", "colour"), [("L", 0), ("L", 255), ("RGB", (9, 200, 31)), ("LA", (0, 0))])
def test_blank_pictures_are_allowed_and_told(mode: str, colour: int | tuple[int, ...]) -> None:
    assert is_blank(decode(encoded(Image.new(mode, (50, 50), colour), "PNG")))
    assert not is_blank(REFERENCE)


def test_size_of_the_output_is_configured() -> None:
    assert ImageInput(size=84).decode(ImageBytes(LOSSY["jpeg"])).shape == (1, 84, 84)
    assert SPEC.like(REFERENCE) is SPEC


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    assert len(BOMB) < 20_000
    started = time.perf_counter()
    error = refused(BOMB)
    assert time.perf_counter() - started < 0.1
    assert (error.code, error.limit) == ("image_too_large", MAX_PIXELS)


@pytest.mark.parametrize(("width", "height"), [(2**31 - 1, 2**31 - 1), (200_000, 100_000), (11_000, 9_000)])
def test_huge_headers_are_refused(width: int, height: int) -> None:
    for data in (
        png(width, height, 8, 2, b"\0\0\0", rows=1),
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 90, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0),
    ):
        assert refused(data).code == "image_too_large"


def test_a_webp_canvas_is_capped() -> None:
    animated = encoded(drawing(), "WEBP", save_all=True, append_images=[drawing().rotate(90)])
    side = (16_383 - 1).to_bytes(3, "little")
    assert refused(animated[:24] + side + side + animated[30:]).code == "image_too_large"


def test_too_many_bytes() -> None:
    error = refused(LOSSLESS["png grey"] + bytes(MAX_BYTES))
    assert (error.code, error.limit) == ("image_too_large", MAX_BYTES)


def test_pixels_are_counted_from_the_header() -> None:
    assert pixel_count(LOSSLESS["gif"]) == WIDTH * HEIGHT
    with pytest.raises(InputError):
        pixel_count(BOMB)


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"{}" * 100, bytes(1000), b"BM", b"RIFF1234WAVE"])
def test_not_an_image(data: bytes) -> None:
    assert refused(data).code == "not_an_image"


def test_an_image_of_no_bytes_is_named() -> None:
    assert "0 bytes" in refused(b"").detail


@pytest.mark.parametrize(
    "data",
    [
        encoded(drawing(), "TIFF"),
        encoded(drawing(), "ICO"),
        b"%PDF-1.7\n",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"\n <?xml version='1.0'?><svg/>",
        b"\0\0\0\x1cftypavif" + bytes(40),
    ],
)
def test_other_formats_are_refused_by_name(data: bytes) -> None:
    error = refused(data)
    assert error.code == "unsupported_image_format"
    assert "PNG" in error.detail


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_half_an_image_is_truncated(name: str) -> None:
    data = {**LOSSLESS, **LOSSY}[name]
    if name in ("gif animated", "jpeg of two pictures"):
        data = data[: len(data) // 2]
    assert refused(data[: len(data) // 2]).code == "truncated_image"


@pytest.mark.parametrize("raw", [Text("cat"), Vector(np.zeros(3, np.float32))])
def test_other_kinds_are_refused(raw: Text | Vector) -> None:
    with pytest.raises(InputError, match="takes images") as caught:
        SPEC.decode(raw)
    assert caught.value.code == "wrong_kind"


def survives(data: bytes) -> None:
    try:
        x = decode(data)
    except InputError:
        return
    assert x.shape == (1, 28, 28)
    assert x.min() >= 0
    assert x.max() <= 1 + 1e-6


@given(st.sampled_from(VALID), st.data())
@settings(max_examples=examples(150), deadline=None)
def test_truncations(valid: bytes, data: st.DataObject) -> None:
    survives(valid[: data.draw(st.integers(0, len(valid)))])


@given(st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 7)), min_size=1))
@settings(max_examples=examples(400), deadline=None)
def test_flipped_bits(valid: bytes, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(valid)
    for position, bit in flips:
        damaged[position % len(damaged)] ^= 1 << bit
    survives(bytes(damaged))


@given(st.sampled_from(VALID), st.integers(0, 120), st.binary(min_size=1, max_size=8), st.integers(0, 8))
@settings(max_examples=examples(300), deadline=None)
def test_damaged_headers(valid: bytes, position: int, junk: bytes, removed: int) -> None:
    survives(valid[:position] + junk + valid[position + removed :])


@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBP", b""]),
    st.binary(),
)
@settings(deadline=None)
def test_any_bytes_behind_a_magic_number(magic: bytes, rest: bytes) -> None:
    survives(magic + rest)
