"""A request inside the engine: its inputs, how far it has come, and the future that waits for it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from app.serving.arena import Arena, Entry
from app.serving.packing import Packed
from app.serving.served_models import Asked, Served
from app.serving.types import Targets, Timing


@dataclass(eq=False, kw_only=True, slots=True)
class Job(ABC):
    """`lane` is whom the work is for. Once submitted, only the compute thread touches a job."""

    served: Asked
    lane: Hashable
    x: Float[Tensor, "n *input"]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    submitted: float = field(default_factory=perf_counter)
    embedded: list[Float[Tensor, "part *feature"]] = field(default_factory=list)
    cursor: int = 0
    timing: Timing = field(default_factory=lambda: {"embed": 0.0})
    done: bool = False

    @property
    def size(self) -> int:
        return self.x.shape[0]

    @property
    def nbytes(self) -> int:
        return self.x.numel() * self.x.element_size()

    @property
    def unwanted(self) -> bool:
        """The client has gone, or a slice of the job has failed."""
        return self.done or self.future.cancelled()

    @property
    def features(self) -> Float[Tensor, "n *feature"]:
        """All features, once every example is embedded."""
        if len(self.embedded) > 1:
            self.embedded = [torch.cat(self.embedded)]
        return self.embedded[0]

    @property
    def cells(self) -> tuple[int, int]:
        """The two ragged sizes: class rows and examples."""
        # A task of values has no class rows, and its examples are work all the same.
        return max(1, self.way), self.features.shape[0]

    @property
    @abstractmethod
    def way(self) -> int:
        """Class rows of the task."""

    @property
    @abstractmethod
    def group(self) -> Hashable:
        """Jobs of one group run as one batch."""

    @abstractmethod
    def release(self) -> None:
        """Gives back what the job holds; called exactly once, whatever became of it."""


@dataclass(eq=False, kw_only=True, slots=True)
class AdaptJob(Job):
    """A support set that is to become weights. With `features` given beforehand nothing is embedded.

    With a `prior`, which is pinned in the arena, its examples are added to those that the prior has seen.
    """

    served: Served
    y: Targets | None
    class_keys: list[int]
    seed: int
    prior: Entry | None = None
    arena: Arena | None = None

    @property
    def way(self) -> int:
        return len(self.class_keys)

    @property
    def group(self) -> Hashable:
        targets = None if self.y is None else (self.y.dtype.char, self.y.shape[1:])
        prior = None if self.prior is None else id(self.prior.layout)
        return AdaptJob, self.served, self.features.shape[1:], targets, prior

    def release(self) -> None:
        if self.prior is not None and self.arena is not None:
            self.arena.unpin(self.prior)


@dataclass(eq=False, kw_only=True, slots=True)
class PredictJob(Job):
    """Queries to one task. `source` is pinned in the arena, or weights that are not kept.

    With `embedded` given beforehand nothing is embedded.
    """

    source: Entry | Packed
    samples: int
    arena: Arena

    @property
    def way(self) -> int:
        return self.source.way

    @property
    def group(self) -> Hashable:
        features = self.features
        # A transductive learner looks at all queries of a task together: padding would be one of them.
        queries = len(features) if self.served.learner.traits.transductive else None
        return PredictJob, self.served, id(self.source.layout), features.shape[1:], self.samples, queries

    def release(self) -> None:
        if isinstance(self.source, Entry):
            self.arena.unpin(self.source)
