"""The configuration of a stream: method, scenario and input, which suffice to build its learner."""

from __future__ import annotations

from typing import Any, Literal

from jaxtyping import Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.inputs import InputSpec, VectorInput
from models.protocol import LearnerError
from models.registry import STREAMS
from models.stream_protocol import StreamLearner, StreamVersion

Scenario = Literal["cl1", "cl2", "cl3"]
"""Scenarios of van de Ven & Tolias 2019. CL1: the task of a query is given, and each task has its own output head. CL2:
all tasks share one set of labels and one head. CL3: all labels differ, and the task must be inferred."""
TargetName = Literal["mlp", "lenet", "resnet32"]
"""Architectures of the main network, whose weights a hypernetwork generates."""


class StreamConfig(BaseModel):
    """The configuration of a stream. It never changes, because the tensors of its versions fit no other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1, 2] = 2
    """Streams of format 1 were made before `analytic` looked at images besides an encoder."""
    method: str = "hypernetwork"
    scenario: Scenario = "cl3"
    hparams: dict[str, Any] = Field(default_factory=dict)
    input: InputSpec
    """The input of one query; with an encoder, the input of the encoder."""
    encoder: str | None = None
    """Name of the learner whose frozen encoder computes the features; None for raw inputs."""
    encoder_digest: str | None = None
    """Digest of that learner, because another one of the same name would compute other features."""
    shape: tuple[int, ...]
    """Shape of one feature: that of the raw input if there is no encoder."""
    seed: int = 0


def build(config: StreamConfig, encoder: nn.Module | None = None) -> StreamLearner:
    """Return a stream learner. All its tensors live in versions, except fixed random ones, which follow from the seed.

    `encoder` is the frozen encoder that `config.encoder` names, if it names one. Raise `RegistryError` for unknown
    names and hyperparameters.
    """
    if (encoder is None) != (config.encoder is None):
        raise LearnerError("pass an encoder if, and only if, the configuration of the stream names one")
    before = {"pixels": False} if config.format == 1 and config.method == "analytic" else {}
    learner_class, hparams = STREAMS.configured(config.method, {**before, **config.hparams})
    learner: StreamLearner = learner_class(config.shape, config.scenario, hparams, encoder, config.seed)
    if encoder is not None and not isinstance(config.input, VectorInput):
        assert config.input.shape is not None
        learner.take_images(config.input.shape)
    return learner


def check_task(
    scenario: Scenario, version: StreamVersion | None, task: str, labels: tuple[str, ...], y: Int[Tensor, "n"]
) -> None:
    """Raise `LearnerError` if the task cannot be registered on top of `version`: its name is taken, it has fewer than
    two classes or an empty one, or its labels do not fit the scenario."""
    if len(labels) < 2:
        raise LearnerError(f"stream task {task!r} needs at least two classes")
    if len(set(labels)) < len(labels):
        raise LearnerError(f"stream task {task!r} names a label twice")
    if y.numel() == 0 or int(y.min()) < 0 or int(y.max()) >= len(labels):
        raise LearnerError(
            f"stream task {task!r}: every target must be an index into its {len(labels)} labels"
        )
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
                f"in scenario cl2 all stream tasks must have the same labels: {task!r} and {other!r} differ"
            )
        if scenario == "cl3" and (shared := [label for label in labels if label in theirs]):
            raise LearnerError(
                f"in scenario cl3 all labels must differ: {shared[0]!r} belongs to both {task!r} and {other!r}"
            )


def check_known(version: StreamVersion, task: str) -> None:
    """Raise `LearnerError` if the task is not registered."""
    if task not in version.tasks:
        raise LearnerError(f"stream task {task!r} is not registered")
