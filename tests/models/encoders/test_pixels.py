"""The encoder that learns nothing: a picture made small and flat."""

import torch
from torch.testing import assert_close

from models.encoders.pixels import Pixels, PixelsConfig


def test_a_picture_is_averaged_to_the_side_and_flattened() -> None:
    encoder = Pixels(PixelsConfig(side=14))
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert encoder.dim == 196
    assert not list(encoder.parameters())
    assert_close(encoder(x), torch.nn.functional.avg_pool2d(x, 2).flatten(1))


def test_the_published_side_is_20() -> None:
    assert Pixels(PixelsConfig()).dim == 400
