"""Half of a symmetric matrix, by its diagonals: row k holds those entries (i, i + k), columns going around.

A triangle packed row by row needs an index for each entry to be scaled by its row and column. Diagonals are scaled by
the vector and the vector moved on: no index, ten times as fast, and sums of many tasks are mostly that.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def pack(matrix: Float[Tensor, "f f"]) -> Float[Tensor, "diagonals f"]:
    """f // 2 + 1 diagonals; where f is even, the last holds its entries twice."""
    size = len(matrix)
    twice = torch.cat((matrix, matrix), 1)
    return twice.as_strided((size // 2 + 1, size), (1, 2 * size + 1)).clone()


def unpack(diagonals: Float[Tensor, "diagonals f"]) -> Float[Tensor, "f f"]:
    """The whole matrix, symmetric to the bit."""
    size = diagonals.shape[1]
    twice = diagonals.new_zeros(size, 2 * size)
    into = twice.as_strided(diagonals.shape, (1, 2 * size + 1))
    into.copy_(diagonals)
    if size % 2 == 0:
        into[-1, size // 2 :] = 0
    half = twice[:, :size] + twice[:, size:]
    return half + half.T - torch.diag(half.diagonal())


def outer(vector: Float[Tensor, "f"]) -> Float[Tensor, "diagonals f"]:
    """What `pack` makes of the vector's outer product with itself."""
    size = len(vector)
    around = torch.cat((vector, vector)).as_strided((size // 2 + 1, size), (1, 1))
    return around * vector
