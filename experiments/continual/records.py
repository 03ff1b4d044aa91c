"""What one training of one method left behind.

A record says the scenario, always: between being told the task and having to infer it lie 30 to 80 points.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from models.continual.stream_config import Scenario, TargetName
from models.continual.two_step_training import Schedule


class Run(BaseModel):
    """What a training is known by: the same run is not measured twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    benchmark: str
    scenario: Scenario
    method: str
    seed: int
    tasks: int
    held_out: int = 0
    """Training examples in the place of the test examples; 0 is the test examples."""
    iterations: int
    batch: int
    lr: float
    schedule: Schedule = "constant"
    target: TargetName = "mlp"
    hidden: tuple[int, ...]
    precision: Literal["fp32", "bf16"]
    hparams: dict[str, Any]
    """Of the method, defaults written out."""

    @property
    def protocol(self) -> tuple[str, Scenario, int, int, str]:
        """Runs of one protocol stand in one table."""
        return self.benchmark, self.scenario, self.tasks, self.held_out, self.target


class Record(BaseModel):
    """Accuracies from 0 to 1: a row for each time that all stream tasks so far were asked, so many in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Run
    accuracy: tuple[tuple[float, ...], ...]
    task_inference: tuple[tuple[float, ...], ...] | None
    """Share of queries whose stream task was found; None where it is told, or not asked for."""
    test_examples: tuple[int, ...]
    seconds: tuple[float, ...]
    """Of each registration, by the clock."""
    cpu_seconds: tuple[float, ...]
    kept_bytes: tuple[int, ...]
    """All that must stay after each stream task."""
    threads: int
    device: str = "cpu"
    """That of the networks."""
    command: str
    versions: dict[str, str]

    @property
    def final(self) -> float:
        """Mean over stream tasks after the last."""
        return sum(self.accuracy[-1]) / len(self.accuracy[-1])

    @property
    def just_learned(self) -> float:
        """Mean over stream tasks that were asked right after they were learned."""
        return sum(row[-1] for row in self.accuracy) / len(self.accuracy)

    def forgetting(self, upto: int | None = None) -> float:
        """Mean over stream tasks asked before of the best accuracy then, minus the one now (1801.10112)."""
        *before, last = self.accuracy[:upto]
        asked = len(before[-1]) if before else 0
        lost = [max(row[task] for row in before if len(row) > task) - last[task] for task in range(asked)]
        return sum(lost) / len(lost) if lost else 0.0

    @property
    def inferred(self) -> float | None:
        if self.task_inference is None:
            return None
        return sum(self.task_inference[-1]) / len(self.task_inference[-1])
