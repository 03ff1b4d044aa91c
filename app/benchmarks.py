"""Protocols that `hyperserve evaluate` knows, each one function and one line of the table below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli_train import console
from models.artifact import Artifact
from models.data import emnist, files, mnist, omniglot
from models.data.dataset import DatasetError
from models.evaluation import bayes_by_backprop
from models.evaluation import compare as comparison
from models.evaluation import emnist as emnist_protocol
from models.evaluation import omniglot as omniglot_protocol
from models.evaluation import vectors as vectors_protocol
from models.evaluation.tables import Plan
from models.training.variational import VariationalConfig


@dataclass(frozen=True)
class Asked:
    """What the command line says; `tasks` None is the protocol's own number."""

    learners: list[Artifact]
    data: Path | None
    split: str | None
    tasks: int | None
    seed: int

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


def _omniglot(asked: Asked) -> dict[str, Any]:
    found, test = asked.learner, omniglot.load(asked.data, "test")
    return omniglot_protocol.evaluate(found.learner, found.config.input, test, asked.plan())


def _omniglot_emnist(asked: Asked) -> dict[str, Any]:
    found = asked.learner
    test = emnist.load(asked.file("EMNIST as an npz"), "test")
    plan = asked.plan(emnist_protocol.TASKS)
    return emnist_protocol.evaluate(
        found.learner, found.config.input, found.config.training_classes, test, plan
    )


def _vectors(asked: Asked) -> dict[str, Any]:
    data, plan = files.load(asked.file("an npz of embeddings and labels"), asked.split), asked.plan()
    return vectors_protocol.evaluate(asked.learner.learner, data, plan.tasks, plan.seed)


def _compare(asked: Asked) -> dict[str, Any]:
    found, plan = asked.learners, asked.plan()
    if not found or len(found) % 2:
        raise DatasetError("compare takes learners in pairs, ours first, then the baseline")
    pairs = [(a.learner, b.learner) for a, b in zip(found[::2], found[1::2], strict=True)]
    return {
        "protocol": "Omniglot test characters, the same tasks for both; differences are ours − baseline",
        "tasks": plan.tasks,
        "training_seeds": len(pairs),
        "cells": comparison.compare(pairs, omniglot.load(asked.data, "test"), plan.tasks, plan.seed),
    }


def _bayes_by_backprop(asked: Asked) -> dict[str, Any]:
    digits = mnist.load(asked.file("MNIST as an npz"))
    if asked.split == "validation":
        digits = digits.held_out(bayes_by_backprop.HELD_OUT)
    elif asked.split is not None:
        raise DatasetError(
            f"bayes-by-backprop has no split {asked.split!r}; it has validation, else the test digits"
        )
    settings = VariationalConfig(seed=asked.seed)
    return bayes_by_backprop.evaluate(digits, settings, lambda row: console.print(row, highlight=False))


BENCHMARKS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "omniglot": _omniglot,
    "omniglot-emnist": _omniglot_emnist,
    "vectors": _vectors,
    "compare": _compare,
    "bayes-by-backprop": _bayes_by_backprop,
}
