"""Half of a symmetric matrix is all of it."""

import pytest
import torch
from torch.testing import assert_close

from models.continual.incremental_ridge import outer, pack, unpack


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9])
def test_a_symmetric_matrix_comes_back(size: int) -> None:
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(size))
    matrix = drawn + drawn.T
    packed = pack(matrix)
    assert packed.shape == (size // 2 + 1, size)
    assert unpack(packed).equal(matrix)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_an_outer_product_needs_no_matrix(size: int) -> None:
    vector = torch.randn(size, generator=torch.Generator().manual_seed(size))
    assert_close(outer(vector), pack(torch.outer(vector, vector)))
