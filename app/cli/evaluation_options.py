"""What `hyperserve evaluate` is asked, as every protocol reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from experiments.fewshot.tables import Plan
from models.artifact import Artifact
from models.data.dataset import DatasetError


class Mode(StrEnum):
    """What BatchNorm normalises by: running or support statistics, which serve, or those of all queries of a task."""

    inductive = "inductive"
    transductive = "transductive"


@dataclass(frozen=True)
class Asked:
    """What the command line says; `tasks` None is the protocol's own number."""

    learners: list[Artifact]
    data: Path | None
    split: str | None
    tasks: int | None
    seed: int
    whole_zoo: bool = False
    mode: Mode = Mode.inductive
    finetune: int | None = None
    """Steps; None is no fine-tuning."""

    @property
    def learner(self) -> Artifact:
        if not self.learners:
            raise DatasetError("this protocol needs --learner: a name in the zoo or a path")
        return self.learners[0]

    def file(self, needed: str) -> Path:
        if self.data is None:
            raise DatasetError(f"this protocol needs --data, {needed}")
        return self.data

    def plan(self, usual: int = Plan.tasks) -> Plan:
        return Plan(tasks=usual if self.tasks is None else self.tasks, seed=self.seed)
