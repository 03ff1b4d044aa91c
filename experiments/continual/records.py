"""The record of one training of one method.

A record always names its scenario: accuracies with the task given and with the task inferred differ by 30 to 80 points.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models.continual.stream_config import Scenario, TargetName
from models.continual.two_step_training import Schedule


class Run(BaseModel):
    """The key of a training: the same run is not measured twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    scenario: Scenario
    method: str
    seed: int
    tasks: int
    held_out: int = 0
    """Number of training examples measured instead of the test examples; 0 if the test examples are."""
    iterations: int
    batch: int
    lr: float
    schedule: Schedule = "constant"
    target: TargetName = "mlp"
    hidden: tuple[int, ...]
    precision: Literal["fp32", "bf16"]
    encoder: str | None = None
    """Name of the learner whose encoder gives the features; None for pixels."""
    hparams: dict[str, Any]
    """Hyperparameters of the method, with defaults written out."""

    @property
    def protocol(self) -> tuple[str, Scenario, int, int, str]:
        """Benchmark, scenario, tasks, held-out examples and target: runs of one protocol form one table."""
        return self.benchmark, self.scenario, self.tasks, self.held_out, self.target


class Record(BaseModel):
    """The figures of a training. `accuracy`, from 0 to 1, has one row per evaluation, with all stream tasks so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Run
    accuracy: tuple[tuple[float, ...], ...]
    task_inference: tuple[tuple[float, ...], ...] | None
    """Share of queries whose stream task was inferred correctly; None if it is given or not inferred."""
    unknown: tuple[float, ...] | None = None
    """Share of the test examples of all stream tasks so far whose `unknown` exceeds 0.5, at each evaluation; None if
    the method has no such number."""
    foreign_auroc: tuple[float | None, ...] | None = None
    """AUROC of `unknown` between them and the test examples of classes that no stream task has yet, if any."""
    test_examples: tuple[int, ...]
    seconds: tuple[float, ...]
    """Wall-clock seconds of each registration."""
    cpu_seconds: tuple[float, ...]
    kept_bytes: tuple[int, ...]
    """Size of everything that must be stored after each stream task."""
    threads: int
    device: str = "cpu"
    """The device of the networks."""
    command: str
    versions: dict[str, str]

    @property
    def final(self) -> float:
        """Mean accuracy over stream tasks after the last."""
        return sum(self.accuracy[-1]) / len(self.accuracy[-1])

    @property
    def just_learned(self) -> float:
        """Mean accuracy over stream tasks evaluated right after they were learned."""
        return sum(row[-1] for row in self.accuracy) / len(self.accuracy)

    def forgetting(self, upto: int | None = None) -> float:
        """Return the best earlier accuracy minus the present one, averaged over earlier stream tasks (1801.10112)."""
        *before, last = self.accuracy[:upto]
        earlier = len(before[-1]) if before else 0
        lost = [max(row[task] for row in before if len(row) > task) - last[task] for task in range(earlier)]
        return sum(lost) / len(lost) if lost else 0.0

    @property
    def inferred(self) -> float | None:
        """Share of queries whose stream task was inferred correctly after the last; None if it is not inferred."""
        if self.task_inference is None:
            return None
        return sum(self.task_inference[-1]) / len(self.task_inference[-1])
