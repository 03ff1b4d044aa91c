"""What a stream is, before any task: its method, its scenario, what it reads. Enough to build its learner."""

from __future__ import annotations

from typing import Any, Literal

from jaxtyping import Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.inputs import InputSpec
from models.protocol import LearnerError
from models.registry import STREAMS
from models.stream_protocol import StreamLearner, StreamVersion

Scenario = Literal["cl1", "cl2", "cl3"]
"""van de Ven & Tolias 2019. CL1: the task is told, each has a head of its own. CL2: all tasks share one set of
labels and one head. CL3: labels are all different, and the task must be inferred."""
TargetName = Literal["mlp", "lenet", "resnet32"]
"""A main network: what a hypernetwork writes weights for."""


class StreamConfig(BaseModel):
    """The description of a stream; immutable, as its versions' tensors only fit it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    method: str = "hypernetwork"
    scenario: Scenario = "cl3"
    hparams: dict[str, Any] = Field(default_factory=dict)
    input: InputSpec
    """Of one query. With an encoder, what the encoder takes."""
    encoder: str | None = None
    """Name of the learner whose frozen encoder makes the features; None for raw inputs."""
    encoder_digest: str | None = None
    """Digest of that learner: another one under the name would make other features."""
    shape: tuple[int, ...]
    """Of one feature: of the raw input where there is no encoder."""
    seed: int = 0


def build(config: StreamConfig, encoder: nn.Module | None = None) -> StreamLearner:
    """A stream learner; all its tensors live in versions, except fixed random ones, which follow from the seed.

    `encoder` is frozen, given where `config.encoder` names one. Raises `RegistryError` for unknown names and
    hyperparameters.
    """
    if (encoder is None) != (config.encoder is None):
        raise LearnerError("an encoder is given exactly where the stream names one")
    found, hparams = STREAMS.configured(config.method, config.hparams)
    return found(config.shape, config.scenario, hparams, encoder, config.seed)


def check_task(
    scenario: Scenario, version: StreamVersion | None, task: str, labels: tuple[str, ...], y: Int[Tensor, "n"]
) -> None:
    """Raises `LearnerError` when the task cannot be registered on top of `version`: its name is taken, it has fewer
    than two classes or an empty one, or its labels do not go with the scenario."""
    if len(labels) < 2:
        raise LearnerError(f"stream task {task!r} needs at least two classes")
    if len(set(labels)) < len(labels):
        raise LearnerError(f"stream task {task!r} names a label twice")
    if y.numel() == 0 or int(y.min()) < 0 or int(y.max()) >= len(labels):
        raise LearnerError(f"stream task {task!r}: every target is an index of its {len(labels)} labels")
    counts = y.bincount(minlength=len(labels)).tolist()
    if 0 in counts:
        raise LearnerError(f"stream task {task!r}: class {labels[counts.index(0)]!r} has no examples")
    if version is None:
        return
    if task in version.tasks:
        raise LearnerError(f"stream task {task!r} is registered already")
    for other, theirs in version.labels.items():
        if scenario == "cl2" and theirs != labels:
            raise LearnerError(
                f"in scenario cl2 all stream tasks have the same labels: those of {task!r} differ from {other!r}"
            )
        if scenario == "cl3" and (shared := [label for label in labels if label in theirs]):
            raise LearnerError(
                f"in scenario cl3 labels are all different: {shared[0]!r} of {task!r} is one of {other!r} too"
            )


def check_known(version: StreamVersion, task: str) -> None:
    """Raises `LearnerError` where the task is not registered."""
    if task not in version.tasks:
        raise LearnerError(f"stream task {task!r} is not registered")
