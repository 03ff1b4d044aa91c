"""Networks that a hypernetwork writes: which numbers are body, and which rows of the head are a task's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.continual.chunked import ChunkedHypernetwork, Parameters
from models.continual.hyperstream_config import HyperStreamConfig
from models.continual.regulariser import (
    Direct,
    Gram,
    Kept,
    OwnHeads,
    Regulariser,
    Sampled,
)
from models.continual.target_networks import head, target
from models.protocol import LearnerError

NUMBERS_MOST = 1 << 29
"""In memory at once, about, while a stream task is registered: 2 GiB."""
_COPIES = 12
"""Of the hypernetwork's parameters: gradients, Adam's two, the step ahead, the snapshot, what passes."""

Owned = Mapping[str, Tensor]
"""Of one task: its "embedding" [e], and "rows" [2], the first row of the head that is its own and how many. It lies
with the processor, parameters where work is done."""


class Generated:
    """Sizes and pure functions; all tensors are arguments."""

    def __init__(self, shape: tuple[int, ...], config: HyperStreamConfig) -> None:
        """Raises `LearnerError` where the target takes no such features, or all of it is too large."""
        self.shape, self.config = shape, config
        self.target = target(config.target, shape, config.hidden)
        self.net = ChunkedHypernetwork(
            min(config.chunk, self.target.size(config.outputs)),
            config.task_embedding,
            config.chunk_embedding,
            config.trunk,
            config.activation,
        )
        self.check(config.outputs, tasks=1)

    def check(self, rows: int, tasks: int) -> None:
        """Raises `LearnerError` where registering beside so many stream tasks needs too much memory."""
        size, net, config = self.target.size(rows), self.net, self.config
        chunks = net.chunks(size)
        widths = (net.task_dim + net.chunk_dim, *net.widths)
        trunk = sum(before * after for before, after in pairwise(widths))
        parameters = chunks * net.chunk_dim + trunk + net.chunk * (net.width + 1)
        # `direct` has the networks of all tasks, or of a subset, the others only what the trunk says of them.
        whole = config.regulariser in ("direct", "stored")
        networks = (
            1
            + (min(tasks, config.subset or tasks) if whole else 0)
            + tasks * (config.regulariser == "stored")
        )
        needed = {
            "hidden, outputs, trunk, chunk": _COPIES * parameters + 4 * networks * chunks * net.chunk,
            "chunk, trunk": 4 * (tasks + 1) * chunks * sum(widths),
            "batch, hidden": config.batch * self.target.activations,
        }
        worst = max(needed, key=lambda name: needed[name])
        if sum(needed.values()) > NUMBERS_MOST:
            raise LearnerError(
                f"hyperparameters {worst}: registering a stream task would need about {sum(needed.values()):,} numbers "
                f"in memory, more than {NUMBERS_MOST:,}"
            )

    def initial(self, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        wanted = self.target.variance(rows) if self.config.initialisation == "hyperfan" else None
        return self.net.initial(self.target.size(rows), generator, wanted)

    def network(self, params: Parameters, own: Owned) -> Float[Tensor, "size"]:
        """One task's flat weights, up to the last of its own rows."""
        size = self.target.size(int(own["rows"].sum()))
        return self.net.generate(params, self.embeddings(params, [own]), size)[0]

    def networks(
        self, params: Parameters, owned: Iterable[Owned]
    ) -> tuple[Float[Tensor, "t body"], Float[Tensor, "t way row"], Int[Tensor, "t"]]:
        """Bodies, own rows padded with 0, and ways."""
        first, way = torch.stack([own["rows"] for own in owned]).unbind(1)
        size = self.target.size(int((first + way).max()))
        flat = self.net.generate(params, self.embeddings(params, owned), size)
        body, rows = self.split(flat)
        padded = rows.new_zeros(len(rows), int(way.max()), rows.shape[2])
        for index, (begin, count) in enumerate(zip(first.tolist(), way.tolist(), strict=True)):
            padded[index, :count] = rows[index, begin : begin + count]
        return body.contiguous(), padded, way

    def embeddings(self, params: Parameters, owned: Iterable[Owned]) -> Float[Tensor, "t e"]:
        """Of tasks, where the parameters are."""
        return torch.stack([own["embedding"] for own in owned]).to(params["out.weight"].device)

    def split(
        self, flat: Float[Tensor, "t size"]
    ) -> tuple[Float[Tensor, "t body"], Float[Tensor, "t r row"]]:
        rows = flat[:, self.target.body :].unflatten(1, (-1, self.target.hidden + 1))
        return flat[:, : self.target.body], rows

    def logits(
        self, flat: Float[Tensor, "size"], x: Float[Tensor, "n *feature"], first: int, way: int
    ) -> Float[Tensor, "n way"]:
        """Of one network: the classes whose rows begin at `first`."""
        body, rows = self.split(flat[None])
        return head(rows[:, first : first + way], self.target.features(body, x[None]))[0]

    def regulariser(
        self, params: Parameters, owned: Iterable[Owned], rows: int, generator: torch.Generator
    ) -> Regulariser | None:
        """Keeps the networks of these tasks as `params` makes them, with heads of so many rows."""
        owned = tuple(owned)
        if not owned:
            return None
        config, net, weighing = self.config, self.net, self.config.weighing
        size = self.target.body if config.masked else self.target.size(rows)
        kept = Kept(params, self.embeddings(params, owned), size)
        found: Regulariser
        if config.regulariser == "gram":
            found = Gram(net, kept, weighing)
        elif config.regulariser == "sampled":
            found = Sampled(net, kept, weighing, pairs=config.subset or 64, generator=generator)
        else:
            stored = config.regulariser == "stored"
            found = Direct(net, kept, weighing, stored=stored, subset=config.subset, generator=generator)
        return OwnHeads(found, *self._own_numbers(owned)) if config.masked else found

    def _own_numbers(self, owned: tuple[Owned, ...]) -> tuple[Int[Tensor, "t n"], Bool[Tensor, "t n"]]:
        """Where in the flat vector the own rows of each task stand, and what is no padding."""
        first, way = torch.stack([own["rows"] for own in owned]).unbind(1)
        row = self.target.hidden + 1
        offset = torch.arange(int(way.max()) * row)
        mask = offset < (way * row)[:, None]
        return (self.target.body + first[:, None] * row + offset) * mask, mask
