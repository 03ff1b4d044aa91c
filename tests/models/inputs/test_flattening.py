"""What a picture shows survives 8 bits and a ground: bit depths, transparency, colour modes."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.inputs import ImageBytes, ImageInput, is_blank
from models.inputs.image import decode_pixels
from tests.models.inputs.pictures import drawing, encoded, png_chunk, png_of_rows, transparent
from tests.property import examples

REFERENCE = ImageInput().decode(ImageBytes(encoded(drawing(), "PNG")))
GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6
CHANNELS = {GREY: 1, RGB: 3, GREY_ALPHA: 2, RGBA: 4}
DARK = np.asarray(drawing()) < 128


def wide(values: np.ndarray, colour: int, alpha: int = 0xFFFF, extra: bytes = b"") -> bytes:
    """A PNG of 16 bits; `values` [height, width] are in all colours."""
    channels = [values] * (CHANNELS[colour] - (colour in (GREY_ALPHA, RGBA)))
    if colour in (GREY_ALPHA, RGBA):
        channels.append(np.full_like(values, alpha))
    rows = np.stack(channels, axis=-1).astype(">u2")
    return png_of_rows(values.shape[1], 16, colour, [row.tobytes() for row in rows], extra=extra)


def ink(data: bytes) -> np.ndarray:
    return ImageInput().decode(ImageBytes(data))


def drawn(low: int, high: int) -> np.ndarray:
    return np.where(DARK, low, high)


@pytest.mark.parametrize("colour", CHANNELS)
@pytest.mark.parametrize("bits", range(8, 17))
def test_any_bit_depth_in_sixteen_bits(bits: int, colour: int) -> None:
    top = (1 << bits) - 1
    for low, high in ((0, top), (top, 0), (top // 3, top)):
        np.testing.assert_allclose(ink(wide(drawn(low, high), colour)), REFERENCE, atol=0.02)


@pytest.mark.parametrize("colour", CHANNELS)
@pytest.mark.parametrize(
    ("low", "high"), [(30_000, 30_400), (40_000, 40_040), (65_000, 65_535), (0, 20), (255, 290), (1000, 1200)]
)
def test_a_narrow_range_is_stretched(low: int, high: int, colour: int) -> None:
    np.testing.assert_allclose(ink(wide(drawn(low, high), colour)), REFERENCE, atol=0.02)


@pytest.mark.parametrize("colour", CHANNELS)
@pytest.mark.parametrize(("low", "high"), [(0, 0), (65_535, 65_535), (30_000, 30_010), (0, 1), (7, 7)])
def test_nothing_is_made_out_of_nothing(low: int, high: int, colour: int) -> None:
    assert is_blank(ink(wide(drawn(low, high), colour)))


@given(st.integers(0, 2**32), st.sampled_from(list(CHANNELS)))
@settings(max_examples=examples(40), deadline=None)
def test_pictures_of_the_full_range_keep_their_upper_bits(seed: int, colour: int) -> None:
    values = np.random.default_rng(seed).integers(0, 0x10000, (9, 7))
    values[0, 0], values[0, 1] = 0xFFFF, 0
    shown = decode_pixels(wide(values, colour))
    np.testing.assert_array_equal(shown[..., 0], values >> 8)


def test_twelve_bits_keep_their_proportions() -> None:
    values = np.array([[0, 1024, 2048, 4095]])
    assert decode_pixels(wide(values, GREY))[0, :, 0].tolist() == [0, 64, 128, 255]


@pytest.mark.parametrize("colour", [GREY_ALPHA, RGBA])
def test_alpha_of_few_bits_is_not_transparent(colour: int) -> None:
    shown = decode_pixels(wide(drawn(0, 4095), colour, alpha=4095))
    assert shown.max() == 255
    assert shown.min() == 0


def test_large_pictures_of_sixteen_bits() -> None:
    large = np.kron(drawn(0, 4095), np.ones((40, 40), int))
    for colour in CHANNELS:
        assert np.abs(ink(wide(large, colour)) - REFERENCE).max() < 0.3


@pytest.mark.parametrize("colour", [GREY, RGB])
def test_a_transparent_value_of_sixteen_bits(colour: int) -> None:
    key = png_chunk(b"tRNS", struct.pack(">H", 777) * CHANNELS[colour])
    for paint in (0, 40_000, 65_535):
        values = np.where(DARK, paint, 777)
        np.testing.assert_allclose(ink(wide(values, colour, extra=key)), REFERENCE, atol=0.02)


def painted(colour: tuple[int, int, int], hidden: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """Strokes of a colour on transparency, which has a colour of its own that nobody sees."""
    alpha = transparent().getchannel("A")
    image = Image.new("RGBA", alpha.size, (*hidden, 0))
    image.paste((*colour, 255), (0, 0), alpha)
    image.putalpha(alpha)
    return image


LEVELS = (0, 60, 128, 200, 240, 250, 255)


@pytest.mark.parametrize(
    "colour", [*itertools.product((0, 128, 255), repeat=3), *((x, x, x) for x in LEVELS)]
)
@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 255, 255), (9, 200, 31)])
def test_strokes_of_any_colour_on_transparency(
    colour: tuple[int, int, int], hidden: tuple[int, int, int]
) -> None:
    image = painted(colour, hidden)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        np.testing.assert_allclose(ink(encoded(image, kind, **options)), REFERENCE, atol=0.02)


def test_a_dark_fringe_does_not_hide_white_strokes() -> None:
    alpha = transparent().getchannel("A").resize((120, 80), Image.Resampling.BILINEAR)
    light = alpha.point(lambda value: 255 if value > 250 else value // 2)
    fringed = Image.merge("RGBA", (light, light, light, alpha))
    plain = Image.merge("LA", (Image.new("L", alpha.size, 0), alpha))
    shown, whole = ink(encoded(fringed, "PNG")), ink(encoded(plain, "PNG"))
    assert shown[whole > 0.9].mean() > 0.8
    assert shown[whole < 0.1].mean() < 0.1


def test_white_on_transparency_in_other_modes() -> None:
    alpha = transparent().getchannel("A")
    white = Image.merge("LA", (Image.new("L", alpha.size, 255), alpha))
    np.testing.assert_allclose(ink(encoded(white, "PNG")), REFERENCE, atol=0.02)
    indexed = alpha.point(lambda value: value > 127 and 1)
    palette = Image.frombytes("P", indexed.size, indexed.tobytes())
    palette.putpalette([0, 0, 0, 255, 255, 255])
    for kind in ("PNG", "GIF"):
        np.testing.assert_allclose(ink(encoded(palette, kind, transparency=0)), REFERENCE, atol=0.02)
    large = white.resize((6000, 4000), Image.Resampling.NEAREST)
    assert np.abs(ink(encoded(large, "PNG")) - REFERENCE).max() < 0.3


def test_dark_paint_stays_on_white() -> None:
    assert decode_pixels(encoded(painted((10, 20, 30)), "PNG"))[0, 0].tolist() == [255, 255, 255]
    mixed = painted((255, 255, 255))
    mixed.putpixel((0, 0), (200, 0, 0, 255))
    assert decode_pixels(encoded(mixed, "PNG"))[1, 0].tolist() == [255, 255, 255]


def test_a_bmp_whose_alpha_is_unused_is_opaque() -> None:
    image = drawing().convert("RGBA")
    image.putalpha(0)
    data = encoded(image, "BMP")
    np.testing.assert_allclose(ink(data), REFERENCE, atol=0.02)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_that_a_file_may_have(mode: str) -> None:
    image = drawing().convert("RGB").convert(mode)
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    assert (
        np.abs(ink(encoded(image, kind, **({"quality": 95} if kind == "JPEG" else {}))) - REFERENCE).max()
        < 0.1
    )
