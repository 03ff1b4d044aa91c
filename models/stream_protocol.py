"""The protocol of continual learning: labelled sets are registered one after the other, and versions are values.

It extends `models.protocol`: the network of a stream task is `TaskWeights` and is queried like any other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor, nn

from models.predictive import Categorical
from models.protocol import Servable, TaskWeights

ProgressCallback = Callable[[Mapping[str, float]], None]
"""Receives the progress of a registration: step, steps, loss."""


@dataclass(frozen=True)
class StreamVersion:
    """An immutable state of a stream, whose tensors are on the CPU whatever device it was made on.

    Tensors of one stream task alone are in `per_task`, so that a forgotten task is really dropped.
    """

    number: int
    labels: Mapping[str, tuple[str, ...]]
    """Class labels of each stream task, in the order of registration."""
    shared: Mapping[str, Tensor]
    per_task: Mapping[str, Mapping[str, Tensor]]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.labels)


@dataclass(frozen=True)
class TaskPosterior:
    """P(task) of each query. Probabilities sum to 1 over `tasks`."""

    tasks: tuple[str, ...]
    probabilities: Float[Tensor, "query stream_tasks"]
    unknown: Float[Tensor, "query"] | None = None
    """Probability, at even odds, that the query belongs to no task; None if the learner does not estimate it."""


class StreamLearner(Servable, nn.Module):
    """A continual learner. Registering changes the shared network, so it returns a new version.

    Subclasses are built as `cls(shape, scenario, config, encoder, seed)`, with the shape of one feature. `register`
    takes raw inputs `x`; `embed` is the frozen encoder or the identity. Features, weights and gates are on the
    learner's device, inputs may be on any. Random numbers are drawn on the CPU whatever the device.
    """

    Config: ClassVar[type[BaseModel]]
    """The hyperparameters: a frozen model that forbids extra fields."""
    encoder: nn.Module | None
    """Frozen; None for raw inputs."""

    def __init__(self, *_: object) -> None:
        """Subclasses take the arguments named above."""
        super().__init__()
        self.encoder = None
        # Follows `.to(device)` even if the learner holds no other tensor.
        self.register_buffer("_place", torch.empty(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """The device of training and generation, as set by `.to(device)`; by default the CPU."""
        return self.get_buffer("_place").device

    def take_images(self, shape: tuple[int, ...]) -> None:
        """Tell a learner with an encoder that its inputs are images of this shape, before its first use.

        Some learners look at them besides the encoder; by default nothing changes.
        """

    @abstractmethod
    def register(
        self,
        version: StreamVersion | None,
        task: str,
        labels: tuple[str, ...],
        x: Float[Tensor, "n *input"],
        y: Int[Tensor, "n"],
        report: ProgressCallback | None = None,
    ) -> StreamVersion:
        """Return the next version. `version=None` starts a stream; `y` indexes `labels`.

        Raise `LearnerError` if the task is registered already or its labels do not fit the scenario.
        """

    @abstractmethod
    def forget(
        self, version: StreamVersion, task: str, report: ProgressCallback | None = None
    ) -> StreamVersion:
        """Return a version without the task, from whose shared tensors its network can no longer be made.

        Raise `LearnerError` if the task is not registered or is the only one.
        """

    @abstractmethod
    def weights(self, version: StreamVersion, task: str) -> TaskWeights:
        """Return the task's network. Class keys are `label_key` of its labels."""

    @abstractmethod
    def gate(self, version: StreamVersion) -> TaskWeights:
        """Return the weights for task inference. Class keys are `label_key` of the task names."""

    @abstractmethod
    def posterior(self, gate: TaskWeights, features: Float[Tensor, "batch query *feature"]) -> Categorical:
        """Return P(task) over stream tasks, with `unknown` if the learner estimates it."""

    @abstractmethod
    def drift(self, version: StreamVersion) -> Mapping[str, float]:
        """Return the change of each task's network since its registration, relative to its size; 0 means unchanged."""

    def infer(self, version: StreamVersion, features: Float[Tensor, "query *feature"]) -> TaskPosterior:
        """Return P(task) of each query."""
        answer = self.posterior(self.gate(version), features[None])
        unknown = None if answer.unknown is None else answer.unknown[0]
        return TaskPosterior(version.tasks, answer.probabilities[0], unknown)
