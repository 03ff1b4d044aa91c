"""Chunked hypernetwork (von Oswald et al. 2019, 1906.00695): turns a task embedding into the weights of a network.

    h(e; Θ) = first P numbers of [W φ(e, c_1) + b, …, W φ(e, c_C) + b],    C = ⌈P / chunk⌉

φ is a small MLP on the task embedding e and a learned chunk embedding c_i; W has one row per number of a chunk.
Parameters are passed as arguments, since a version of a stream is a mapping of tensors; the class holds sizes only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Parameters = Mapping[str, Tensor]
Activation = Literal["relu", "elu"]
Initialisation = Literal["xavier", "hyperfan"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "elu": F.elu}
_DRAWS = 64
"""Number of embeddings on which the scale of φ is measured for hyperfan."""


@dataclass(frozen=True)
class ChunkedHypernetwork:
    """The sizes of a hypernetwork. With `widths=()` it is linear: φ is the two embeddings side by side."""

    chunk: int
    task_dim: int
    chunk_dim: int
    widths: tuple[int, ...]
    activation: Activation = "relu"

    @property
    def width(self) -> int:
        """The length of φ."""
        return self.widths[-1] if self.widths else self.task_dim + self.chunk_dim

    def chunks(self, size: int) -> int:
        """Return the number of chunks that `size` numbers take."""
        return -(-size // self.chunk)

    def initial(
        self, size: int, generator: torch.Generator, variance: Float[Tensor, "size"] | None = None
    ) -> dict[str, Tensor]:
        """Return initial parameters as in the paper: Xavier, biases 0, chunk embeddings N(0, 1).

        Given the `variance` that each generated number should have, the output layer is hyperfan-in (Chang et al.
        2020).
        """
        params = {"chunks": torch.randn(self.chunks(size), self.chunk_dim, generator=generator)}
        dims = (self.task_dim + self.chunk_dim, *self.widths)
        for index, (before, after) in enumerate(pairwise(dims)):
            params[f"trunk.{index}.weight"] = _xavier(after, before, generator)
            params[f"trunk.{index}.bias"] = torch.zeros(after)
        params["out.weight"] = _xavier(self.chunk, self.width, generator)
        params["out.bias"] = torch.zeros(self.chunk)
        if variance is not None:
            deviation = self._row_variance(params, variance, generator).sqrt()[:, None]
            params["out.weight"] = deviation * torch.randn(self.chunk, self.width, generator=generator)
        return params

    def grown(self, params: Parameters, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the parameters with chunk embeddings for `size` numbers; existing ones stay as they are."""
        missing = self.chunks(size) - len(params["chunks"])
        if missing <= 0:
            return dict(params)
        new = torch.randn(missing, self.chunk_dim, generator=generator).to(params["chunks"])
        return {**params, "chunks": torch.cat([params["chunks"], new])}

    def trunk(self, params: Parameters, embeddings: Float[Tensor, "t e"]) -> Float[Tensor, "t chunks width"]:
        """Return φ of every task and chunk."""
        shape = (len(embeddings), len(params["chunks"]))
        tasks, chunks = embeddings[:, None], params["chunks"][None]
        if not self.widths:
            return torch.cat([tasks.expand(*shape, -1), chunks.expand(*shape, -1)], 2)
        return self.pairs(params, tasks, chunks)

    def pairs(
        self, params: Parameters, tasks: Float[Tensor, "... e"], chunks: Float[Tensor, "... c"]
    ) -> Float[Tensor, "... width"]:
        """Return φ of pairs of embeddings whose leading dimensions broadcast."""
        if not self.widths:
            return torch.cat([tasks, chunks], -1)
        activate = _ACTIVATIONS[self.activation]
        # Splitting the first layer makes it cost tasks + chunks instead of tasks × chunks.
        of_task, of_chunk = params["trunk.0.weight"].split([self.task_dim, self.chunk_dim], 1)
        hidden = activate(F.linear(tasks, of_task) + F.linear(chunks, of_chunk, params["trunk.0.bias"]))
        for index in range(1, len(self.widths)):
            weight, bias = params[f"trunk.{index}.weight"], params[f"trunk.{index}.bias"]
            hidden = activate(F.linear(hidden, weight, bias))
        return hidden

    def generate(
        self, params: Parameters, embeddings: Float[Tensor, "t e"], size: int
    ) -> Float[Tensor, "t size"]:
        """Return the flat weights of every task's network."""
        needed = {**params, "chunks": params["chunks"][: self.chunks(size)]}
        out = F.linear(self.trunk(needed, embeddings), params["out.weight"], params["out.bias"])
        return out.flatten(1)[:, :size]

    def _row_variance(
        self, params: Parameters, variance: Float[Tensor, "size"], generator: torch.Generator
    ) -> Float[Tensor, "chunk"]:
        """Return the variance of each row of W: the mean over the numbers that it generates, one per chunk, over
        E‖φ‖²."""
        drawn = torch.randn(_DRAWS, self.task_dim, generator=generator)
        scale = self.trunk(params, drawn).square().sum(2).mean()
        padded = F.pad(variance, (0, self.chunks(len(variance)) * self.chunk - len(variance)))
        users = F.pad(torch.ones_like(variance), (0, len(padded) - len(variance)))
        total, count = (each.view(-1, self.chunk).sum(0) for each in (padded, users))
        return total / count.clamp_min(1) / scale.clamp_min(1e-12)


def _xavier(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    bound = math.sqrt(6 / (rows + columns))
    return (2 * torch.rand(rows, columns, generator=generator) - 1) * bound
