"""What the labels of stream tasks must obey in each scenario (van de Ven & Tolias 2019)."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from models.continual.config import Scenario
from models.protocol import LearnerError
from models.stream_protocol import StreamVersion


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
