"""`hyperserve evaluate omniglot` and the other protocols of classification, one function each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from app.cli.errors import MisuseError
from app.cli.evaluation_command import LearnerOptions, evaluation
from experiments.fewshot import (
    cifarfs_protocol,
    lake_protocol,
    mann_protocol,
    omniglot_protocol,
    paired_comparison,
    vectors_protocol,
)
from models.data import cifarfs, emnist, files
from models.data import omniglot as omniglot_data
from models.data.dataset import ClassDataset


@dataclass(frozen=True)
class VectorsOptions(LearnerOptions):
    """Options of `hyperserve evaluate vectors`."""

    split: Annotated[str | None, typer.Option(help="Split of the npz.")] = None


@evaluation("omniglot", LearnerOptions)
def omniglot(options: LearnerOptions) -> dict[str, Any]:
    """Measure on Omniglot's test characters.

    Prints accuracy, likelihood, calibration, prediction sets, `unknown` and epistemic uncertainty.
    """
    found, test = options.learner, omniglot_data.load(options.data, "test")
    return omniglot_protocol.evaluate(found.learner, found.config.input, test, options.plan())


@evaluation("omniglot-lake", LearnerOptions)
def omniglot_lake(options: LearnerOptions) -> dict[str, Any]:
    """Measure on Lake's 20 runs.

    A run has 20 characters of one alphabet; the learner must be trained on the background characters alone.
    """
    found, runs = options.learner, omniglot_data.lake_runs(options.data)
    return lake_protocol.evaluate(found.learner, found.config.input, found.config.training_classes, runs)


@evaluation("cifar-fs", LearnerOptions)
def cifar_fs(options: LearnerOptions) -> dict[str, Any]:
    """Measure on the test classes of CIFAR-FS.

    Tasks have 5 ways; there are 600 for each of 5 seeds.
    """
    found, test = options.learner, cifarfs.load(options.required_data("the folder of its npz files"), "test")
    return cifarfs_protocol.evaluate(found.learner, found.config, test, options.plan(cifarfs_protocol.TASKS))


@evaluation("vectors", VectorsOptions)
def vectors(options: VectorsOptions) -> dict[str, Any]:
    """Measure on labelled vectors.

    The data are an npz of embeddings and labels.
    """
    data = files.load(options.required_data("an npz of embeddings and labels"), options.split)
    plan = options.plan()
    return vectors_protocol.evaluate(options.learner.learner, data, plan.tasks, plan.seed)


@evaluation("mann", LearnerOptions)
def mann(options: LearnerOptions) -> dict[str, Any]:
    """Measure on streams of examples in mixed order.

    Each example is answered before its label is shown; accuracy is by how often its class has been seen.
    """
    found, test = options.learner, omniglot_data.load(options.data, "test")
    return mann_protocol.evaluate(found.learner, found.config.input, test, options.plan())


@evaluation("compare", LearnerOptions)
def compare(options: LearnerOptions) -> dict[str, Any]:
    """Compare pairs of learners on Omniglot.

    Give --learner twice for each pair, ours before its baseline; both answer the same tasks.
    """
    return _compared(options, "Omniglot test characters", lambda: omniglot_data.load(options.data, "test"))


@evaluation("compare-emnist", LearnerOptions)
def compare_emnist(options: LearnerOptions) -> dict[str, Any]:
    """Compare pairs of learners on EMNIST.

    Give --learner twice for each pair, ours before its baseline; both answer the same tasks.
    """
    data = options.required_data("EMNIST as an npz")
    return _compared(options, "EMNIST test characters", lambda: emnist.load(data, "test"))


def _compared(options: LearnerOptions, characters: str, load: Callable[[], ClassDataset]) -> dict[str, Any]:
    found, plan = options.learners, options.plan()
    if not found or len(found) % 2:
        raise MisuseError("compare takes learners in pairs: --learner OURS --learner BASELINE")
    if any(one.config.input != found[0].config.input for one in found):
        raise MisuseError("compare takes learners of one input; these differ")
    pairs = [(a.learner, b.learner) for a, b in zip(found[::2], found[1::2], strict=True)]
    return {
        "protocol": f"{characters}, the same tasks for both; differences are ours − baseline",
        "tasks": plan.tasks,
        "training_seeds": len(pairs),
        "cells": paired_comparison.compare(pairs, load(), plan.tasks, plan.seed, found[0].config.input),
    }
