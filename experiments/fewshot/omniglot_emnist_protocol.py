"""Omniglot→EMNIST ("cross_char"): trained on Omniglot without Latin, tested on 31 classes of EMNIST.

600 tasks of 15 queries per class for each of 5 seeds, inductive. Beside the published accuracy there is one that
accepts upper for lower case and l for 1, since some of these pairs look the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from experiments.errors import ExperimentError
from experiments.fewshot.table_rows import EvaluationPlan, cell_row, disagreement_row, unknown_row
from models.data.dataset import ClassDataset, model_input
from models.data.emnist import merged
from models.evaluation.episodic import Batch, Cell, Features, accuracy, answers, cells_of, embed_all
from models.evaluation.scores import MeanEstimate
from models.inputs import InputSpec
from models.protocol import MetaLearner

WAYS, SHOTS = (5,), (1, 5)
SEEDS = 5
TASKS = 600
TRAINING_CLASSES = {
    "4e7112e4fa62456345c64f8713fea3e6361809c832506b737e0c6794b5881139": "characters",
    "8a90c03911a1ab4e3c34b0dd8bf7b675dbe11a323380c09b577967fea5408db0": "characters and their rotations",
    "993ac3072ecc9d6e74d520d6034a4424fd7b2152db56eb33423014e6f08c9a08": "characters, mirrored and rotated",
}
"""Descriptions of Omniglot's training classes without Latin by digest. Only learners of these may be measured."""


def evaluate(
    learner: MetaLearner,
    spec: InputSpec,
    training_classes: str | None,
    test: ClassDataset,
    plan: EvaluationPlan,
) -> dict[str, Any]:
    """Return all tables of one learner. `training_classes` is the digest in its card.

    Raise `ExperimentError` if the learner was trained on other classes, which might include Latin.
    """
    if training_classes not in TRAINING_CLASSES:
        raise ExperimentError("this protocol needs a learner trained on Omniglot without Latin")
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
        result["epistemic"] = [disagreement_row(learner, features, shot, plan) for shot in (1, 2, 5, 10)]
    return result


def accuracies(batches: Sequence[Batch], test: ClassDataset) -> dict[str, Any]:
    """Return accuracies on classes of `test`, given the tasks of `SEEDS` seeds one seed after another."""
    groups = sorted({merged(name) for name in test.class_names})
    group = torch.tensor([groups.index(merged(name)) for name in test.class_names])
    exact = torch.cat([accuracy(batch) for batch in batches])
    merged_case = torch.cat([_case_merged_accuracy(batch, group) for batch in batches])
    return {
        "accuracy": asdict(MeanEstimate.over(exact)),
        "std_over_seeds": float(exact.view(SEEDS, -1).mean(1).std()),
        "case_merged": asdict(MeanEstimate.over(merged_case)),
    }


def _all_seeds(learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan) -> list[Batch]:
    return [
        batch.slim()
        for seed in range(plan.seed, plan.seed + SEEDS)
        for batch in answers(learner, features, cell, plan.tasks, seed)
    ]


def _case_merged_accuracy(batch: Batch, group: Tensor) -> Tensor:
    """Return, for each task, the share of queries predicted as a class of the same group."""
    groups = group[batch.classes]
    named = groups.gather(1, batch.answer.log_probs.argmax(-1))
    return (named == groups.gather(1, batch.target)).float().mean(1)
