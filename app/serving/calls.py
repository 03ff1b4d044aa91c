"""Calls of the engine: the inputs of a request, its progress, and the future that waits for its result."""

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

from app.serving.arena import Arena, ArenaEntry
from app.serving.engine_types import Targets
from app.serving.packing import PackedWeights
from app.serving.served_models import ServedLearner, ServedModel
from hyperserve.types import Timing


@dataclass(eq=False, kw_only=True, slots=True)
class Call(ABC):
    """One request to adapt or to predict. Calls of one `flow` run in order, and flows take turns.

    Once a call is submitted, only the compute thread touches it.
    """

    served: ServedModel
    flow: Hashable
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
    def abandoned(self) -> bool:
        """True if the client has gone, or a slice of the call has failed."""
        return self.done or self.future.cancelled()

    @property
    def features(self) -> Float[Tensor, "n *feature"]:
        """The features of all examples, once every one is embedded."""
        if len(self.embedded) > 1:
            self.embedded = [torch.cat(self.embedded)]
        return self.embedded[0]

    @property
    def cells(self) -> tuple[int, int]:
        """The two ragged sizes: class rows and examples."""
        # A task of values has no class rows, but its examples are work all the same.
        return max(1, self.way), self.features.shape[0]

    @property
    @abstractmethod
    def way(self) -> int:
        """Class rows of the task."""

    @property
    @abstractmethod
    def group(self) -> Hashable:
        """Calls of one group run as one batch."""

    @abstractmethod
    def release(self) -> None:
        """Release what the call has pinned. It is called exactly once, whatever the outcome."""


@dataclass(eq=False, kw_only=True, slots=True)
class AdaptCall(Call):
    """A support set to be turned into weights. If its features are given beforehand, nothing is embedded.

    With a `prior`, which is pinned in the arena, the examples are added to those that the prior has seen.
    """

    served: ServedLearner
    y: Targets | None
    class_keys: list[int]
    seed: int
    prior: ArenaEntry | None = None
    arena: Arena | None = None

    @property
    def way(self) -> int:
        return len(self.class_keys)

    @property
    def group(self) -> Hashable:
        targets = None if self.y is None else (self.y.dtype.char, self.y.shape[1:])
        prior = None if self.prior is None else id(self.prior.layout)
        return AdaptCall, self.served, self.features.shape[1:], targets, prior

    def release(self) -> None:
        if self.prior is not None and self.arena is not None:
            self.arena.unpin(self.prior)


@dataclass(eq=False, kw_only=True, slots=True)
class PredictCall(Call):
    """Queries to one task. `source` is pinned in the arena, or weights used once.

    If `embedded` is given beforehand, nothing is embedded.
    """

    source: ArenaEntry | PackedWeights
    samples: int
    arena: Arena

    @property
    def way(self) -> int:
        return self.source.way

    @property
    def group(self) -> Hashable:
        features = self.features
        # A transductive learner looks at all queries of a task together: padding would count as a query.
        queries = len(features) if self.served.learner.traits.transductive else None
        return PredictCall, self.served, id(self.source.layout), features.shape[1:], self.samples, queries

    def release(self) -> None:
        if isinstance(self.source, ArenaEntry):
            self.arena.unpin(self.source)
