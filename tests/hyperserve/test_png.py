"""The PNG writer, read back by Pillow."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hyperserve import png

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    channels=st.sampled_from(sorted(MODES)),
    seed=st.integers(0, 1000),
)
def test_pillow_reads_back_every_pixel(width: int, height: int, channels: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    image = Image.open(BytesIO(png.encode(pixels.tobytes(), width, height, channels)))
    image.load()
    assert image.format == "PNG"
    assert image.mode == MODES[channels]
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize(("width", "height", "pixels"), [(2, 2, b"123"), (0, 2, b""), (2, 0, b"")])
def test_sizes_that_do_not_fit_are_refused(width: int, height: int, pixels: bytes) -> None:
    with pytest.raises(ValueError, match="do not make an image of"):
        png.encode(pixels, width, height, 1)
