"""Omniglot→EMNIST ("cross_char"): trained on Omniglot without Latin, tested on 31 classes of EMNIST.

600 tasks of 15 queries per class for each of 5 seeds, inductive. Beside the accuracy as published stands one that
forgives upper for lower case and l for 1, of which some pairs look the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from experiments.fewshot.table_rows import EvaluationPlan, cell_row, gold_row, unknown_row
from models.data.dataset import ClassDataset, model_input
from models.data.emnist import merged
from models.evaluation.episodic import Batch, Cell, Features, accuracy, answers, cells_of, embed_all
from models.evaluation.scores import MeanEstimate
from models.inputs import InputSpec
from models.protocol import LearnerError, MetaLearner

WAYS, SHOTS = (5,), (1, 5)
SEEDS = 5
TASKS = 600
TRAINING_CLASSES = {
    "4e7112e4fa62456345c64f8713fea3e6361809c832506b737e0c6794b5881139": "characters",
    "8a90c03911a1ab4e3c34b0dd8bf7b675dbe11a323380c09b577967fea5408db0": "characters and their rotations",
    "993ac3072ecc9d6e74d520d6034a4424fd7b2152db56eb33423014e6f08c9a08": "characters, mirrored and rotated",
}
"""Digest of the training classes of Omniglot without Latin, which alone make the figures count, to what they are."""


def evaluate(
    learner: MetaLearner,
    spec: InputSpec,
    training_classes: str | None,
    test: ClassDataset,
    plan: EvaluationPlan,
) -> dict[str, Any]:
    """All tables of one learner of some input. `training_classes` is the digest that its card holds.

    Raises `LearnerError` for a learner that was trained on other classes, Latin ones perhaps.
    """
    if training_classes not in TRAINING_CLASSES:
        raise LearnerError("the learner was not trained on Omniglot without Latin, which this protocol needs")
    features = embed_all(learner, model_input(test, spec), test.labels, test.domains)
    cells = cells_of(learner.traits, WAYS, SHOTS)
    result = {
        "protocol": "Omniglot without Latin → EMNIST, 31 test classes; queries per class 15; inductive",
        "trained_on": TRAINING_CLASSES[training_classes],
        "tasks": f"{plan.tasks} for each of {SEEDS} seeds from {plan.seed}",
        "accuracy": [
            {
                "way": cell.way,
                "shot": cell.shot,
                **accuracies(_all_seeds(learner, features, cell, plan), test),
            }
            for cell in cells
        ],
        "cells": [cell_row(learner, features, cell, plan) for cell in cells],
        "unknown": [unknown_row(learner, features, cell, False, plan, "any test class") for cell in cells],
    }
    if learner.traits.stochastic:
        result["epistemic"] = [gold_row(learner, features, shot, plan) for shot in (1, 2, 5, 10)]
    return result


def accuracies(batches: Sequence[Batch], test: ClassDataset) -> dict[str, Any]:
    """Of the tasks of `SEEDS` seeds, one seed after another, on classes of `test`."""
    groups = sorted({merged(name) for name in test.class_names})
    group = torch.tensor([groups.index(merged(name)) for name in test.class_names])
    exact = torch.cat([accuracy(batch) for batch in batches])
    forgiven = torch.cat([_forgiving(batch, group) for batch in batches])
    return {
        "accuracy": asdict(MeanEstimate.over(exact)),
        "std_over_seeds": float(exact.view(SEEDS, -1).mean(1).std()),
        "case_merged": asdict(MeanEstimate.over(forgiven)),
    }


def _all_seeds(learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan) -> list[Batch]:
    return [
        batch.slim()
        for seed in range(plan.seed, plan.seed + SEEDS)
        for batch in answers(learner, features, cell, plan.tasks, seed)
    ]


def _forgiving(batch: Batch, group: Tensor) -> Tensor:
    """Share of queries answered by a class of the same group, per task."""
    groups = group[batch.classes]
    named = groups.gather(1, batch.answer.log_probs.argmax(-1))
    return (named == groups.gather(1, batch.target)).float().mean(1)
