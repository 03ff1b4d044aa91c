"""A sketch tells how far a long vector has moved."""

import torch
from torch.testing import assert_close

from models.continual.hypernetwork import SKETCH_LENGTH, relative_change, sketch


def test_it_is_linear_and_short() -> None:
    a, b = torch.randn(2, 10_000, generator=torch.Generator().manual_seed(0))
    assert sketch(a).shape == (SKETCH_LENGTH,)
    assert_close(sketch(a + b), sketch(a) + sketch(b), atol=1e-4, rtol=1e-4)


def test_relative_change_is_right_within_a_quarter() -> None:
    generator = torch.Generator().manual_seed(0)
    then, moved = torch.randn(2, 50_000, generator=generator)
    for size in (0.01, 0.1, 1.0):
        assert 0.75 * size < relative_change(then + size * moved, sketch(then)) < 1.25 * size
    assert relative_change(then, sketch(then)) == 0
