"""PIL images of any mode show on the server what they hold."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from hyperserve import inputs
from hyperserve.errors import InvalidArgumentError
from models.inputs import ImageBytes, ImageInput


def drawn() -> np.ndarray:
    image = Image.new("L", (60, 40), 0)
    ImageDraw.Draw(image).line((10, 6, 48, 30), fill=1, width=5)
    return np.asarray(image).astype(np.float64)


def ink(image: Image.Image) -> np.ndarray:
    data = base64.b64decode(inputs.encode(image)["image"])
    return ImageInput().decode(ImageBytes(data))


REFERENCE = ink(Image.fromarray((255 * drawn()).astype(np.uint8)))


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 1),
        (0, 0.5),
        (0.25, 0.3),
        (-1, 1),
        (0, 255),
        (0, 10),
        (0, 4095),
        (0, 65_535),
        (-1e6, 1e6),
        (1e30, 3e30),
    ],
)
def test_floats_on_any_scale(low: float, high: float) -> None:
    image = Image.fromarray((low + drawn() * (high - low)).astype(np.float32))
    assert image.mode == "F"
    np.testing.assert_allclose(ink(image), REFERENCE, atol=0.02)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 255), (0, 1023), (0, 4095), (0, 65_535), (-500, 500), (0, 2**31 - 1), (70_000, 90_000), (300, 400)],
)
def test_integers_on_any_scale(low: int, high: int) -> None:
    image = Image.fromarray((low + drawn() * (high - low)).astype(np.int32))
    assert image.mode == "I"
    np.testing.assert_allclose(ink(image), REFERENCE, atol=0.02)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bit_modes(mode: str, bits: int) -> None:
    values = (drawn() * ((1 << bits) - 1)).astype(">u2" if mode.endswith("B") else "<u2")
    image = Image.frombytes(mode, (60, 40), values.tobytes())
    np.testing.assert_allclose(ink(image), REFERENCE, atol=0.02)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_other_modes(mode: str) -> None:
    grey = Image.fromarray((255 * drawn()).astype(np.uint8))
    through = {"PA": "P", "La": "LA", "RGBa": "RGBA", "LA": "L"}.get(mode, "RGB")
    np.testing.assert_allclose(ink(grey.convert(through).convert(mode)), REFERENCE, atol=0.05)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (250, 250, 240), (200, 30, 90)])
def test_strokes_on_transparency(colour: tuple[int, int, int]) -> None:
    image = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    image.paste((*colour, 255), (0, 0), Image.fromarray((255 * drawn()).astype(np.uint8)))
    np.testing.assert_allclose(ink(image), REFERENCE, atol=0.02)


def test_an_8_bit_picture_in_floats_stays_as_it_is() -> None:
    values = np.arange(256, dtype=np.float32).reshape(16, 16)
    data = base64.b64decode(inputs.encode(Image.fromarray(values))["image"])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (17, 23)])
def test_numbers_that_are_none_are_refused(value: float, place: tuple[int, int]) -> None:
    values = drawn().astype(np.float32)
    values[place] = value
    with pytest.raises(InvalidArgumentError, match=r"query 0: .*not finite"):
        inputs.queries([Image.fromarray(values)])
