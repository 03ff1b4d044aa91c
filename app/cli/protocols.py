"""Protocols that `hyperserve evaluate` knows, each one function and one line of the table below."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.cli.evaluate_family import omniglot_emnist
from app.cli.evaluation_options import Asked
from app.cli.train import console
from experiments import bayes_by_backprop
from experiments.fewshot import cifarfs as cifarfs_protocol
from experiments.fewshot import compare as comparison
from experiments.fewshot import lake
from experiments.fewshot import mann as memory_protocol
from experiments.fewshot import omniglot as omniglot_protocol
from experiments.fewshot import vectors as vectors_protocol
from experiments.variational import VariationalConfig
from models.data import cifarfs, emnist, files, mnist, omniglot
from models.data.dataset import ClassDataset, DatasetError, model_input
from models.data.functions import Completion
from models.evaluation import functions as functions_protocol


def _omniglot(asked: Asked) -> dict[str, Any]:
    found, test = asked.learner, omniglot.load(asked.data, "test")
    return omniglot_protocol.evaluate(found.learner, found.config.input, test, asked.plan())


def _omniglot_lake(asked: Asked) -> dict[str, Any]:
    found, config = asked.learner, asked.learner.config
    runs = omniglot.lake_runs(asked.data)
    return lake.evaluate(found.learner, config.input, config.training_classes, runs)


def _vectors(asked: Asked) -> dict[str, Any]:
    data, plan = files.load(asked.file("an npz of embeddings and labels"), asked.split), asked.plan()
    return vectors_protocol.evaluate(asked.learner.learner, data, plan.tasks, plan.seed)


def _compare(asked: Asked) -> dict[str, Any]:
    return _compared(asked, "Omniglot test characters", omniglot.load(asked.data, "test"))


def _compare_emnist(asked: Asked) -> dict[str, Any]:
    return _compared(asked, "EMNIST test characters", emnist.load(asked.file("EMNIST as an npz"), "test"))


def _compared(asked: Asked, characters: str, test: ClassDataset) -> dict[str, Any]:
    found, plan = asked.learners, asked.plan()
    if not found or len(found) % 2:
        raise DatasetError("compare takes learners in pairs, ours first, then the baseline")
    if any(one.config.input != found[0].config.input for one in found):
        raise DatasetError("compare takes learners of one input")
    pairs = [(a.learner, b.learner) for a, b in zip(found[::2], found[1::2], strict=True)]
    return {
        "protocol": f"{characters}, the same tasks for both; differences are ours − baseline",
        "tasks": plan.tasks,
        "training_seeds": len(pairs),
        "cells": comparison.compare(pairs, test, plan.tasks, plan.seed, found[0].config.input),
    }


def _cifar_fs(asked: Asked) -> dict[str, Any]:
    found, test = asked.learner, cifarfs.load(asked.file("the folder of its npz files"), "test")
    return cifarfs_protocol.evaluate(found.learner, found.config, test, asked.plan(cifarfs_protocol.TASKS))


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


def _mann(asked: Asked) -> dict[str, Any]:
    found, test = asked.learner, omniglot.load(asked.data, "test")
    return memory_protocol.evaluate(found.learner, found.config.input, test, asked.plan())


def _sinusoid(asked: Asked) -> dict[str, Any]:
    plan, first = asked.plan(), asked.learner
    learners = {found.name: found.learner for found in (first, *asked.learners[1:])}
    return functions_protocol.beside(
        {
            name: functions_protocol.sinusoid(learner, plan.tasks, plan.seed)
            for name, learner in learners.items()
        }
    )


def _completion(asked: Asked) -> dict[str, Any]:
    """Of Omniglot's test characters."""
    learner, plan = asked.learner.learner, asked.plan()
    pictures = Completion(model_input(omniglot.load(asked.data, "test")))
    return functions_protocol.completion(learner, pictures, plan.tasks, plan.seed)


BENCHMARKS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "omniglot": _omniglot,
    "omniglot-emnist": omniglot_emnist,
    "omniglot-lake": _omniglot_lake,
    "cifar-fs": _cifar_fs,
    "vectors": _vectors,
    "sinusoid": _sinusoid,
    "completion": _completion,
    "mann": _mann,
    "compare": _compare,
    "compare-emnist": _compare_emnist,
    "bayes-by-backprop": _bayes_by_backprop,
}
