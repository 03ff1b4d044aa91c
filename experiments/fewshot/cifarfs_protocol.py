"""CIFAR-FS: 600 tasks of 15 queries per class for each of 5 seeds on the 20 test classes, inductive.

Reported figures are listed with the widths of their Conv-4, because only learners of the same width are comparable.
None of them was measured here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from experiments.errors import ExperimentError
from experiments.fewshot.table_rows import EvaluationPlan, cell_row, disagreement_row, unknown_row
from models.data.dataset import ClassDataset, model_input
from models.evaluation.episodic import Cell, Features, accuracy, answers, cells_of, embed_all
from models.evaluation.scores import MeanEstimate
from models.inputs import PhotoInput
from models.protocol import MetaLearner
from models.registry import LearnerConfig

WAYS, SHOTS = (5,), (1, 5)
SEEDS = 5
TASKS = 600
TRAINING_CLASSES = "e40c037757741c61e50829c14d921fd10476dfc74ca34da755afdcf05e75b9c1"
"""Digest of the 64 training classes. Only learners trained on exactly these may be measured."""


@dataclass(frozen=True)
class ReportedCifarfs:
    """Accuracies of 5-way tasks at 1 and 5 shots, in [0, 1], as reported by Bertinetto et al. 2019 (1805.08136)."""

    name: str
    widths: str
    one_shot: float
    five_shot: float


REPORTED = (
    ReportedCifarfs("ProtoNet", "64-64-64-64", 0.555, 0.720),
    ReportedCifarfs("MAML", "32-32-32-32", 0.589, 0.715),
    ReportedCifarfs("R2-D2", "64-64-64-64", 0.600, 0.761),
    ReportedCifarfs("R2-D2", "96-192-384-512", 0.653, 0.794),
)


def evaluate(
    learner: MetaLearner, config: LearnerConfig, test: ClassDataset, plan: EvaluationPlan
) -> dict[str, Any]:
    """Return all tables of one learner. Raise `ExperimentError` if its input or its training classes do not fit."""
    if not isinstance(config.input, PhotoInput):
        raise ExperimentError("this protocol needs a learner of colour images")
    if config.training_classes != TRAINING_CLASSES:
        raise ExperimentError(
            "this protocol needs a learner trained on exactly the training classes of CIFAR-FS"
        )
    features = embed_all(learner, model_input(test, config.input), test.labels, test.domains)
    cells = cells_of(learner.traits, WAYS, SHOTS)
    result = {
        "protocol": "CIFAR-FS, 20 test classes; queries per class 15; inductive",
        "tasks": f"{plan.tasks} for each of {SEEDS} seeds from {plan.seed}",
        "encoder": described_encoder(config),
        "accuracy": [_accuracies(learner, features, cell, plan) for cell in cells],
        "reported": [asdict(report) for report in REPORTED],
        "cells": [cell_row(learner, features, cell, plan) for cell in cells],
        "unknown": [unknown_row(learner, features, cell, False, plan, "any test class") for cell in cells],
    }
    if learner.traits.stochastic:
        result["epistemic"] = [disagreement_row(learner, features, shot, plan) for shot in (1, 2, 5, 10)]
    return result


def described_encoder(config: LearnerConfig) -> str:
    """Return the encoder's name, widths and use of mirror images in words."""
    hparams = config.encoder_hparams
    widths = "-".join(map(str, hparams.get("widths", ())))
    mirrored = ", features averaged over mirror images" if hparams.get("mirrored") else ""
    return f"{config.encoder} {widths}{mirrored}"


def _accuracies(learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan) -> dict[str, Any]:
    found = torch.cat(
        [
            accuracy(batch)
            for seed in range(plan.seed, plan.seed + SEEDS)
            for batch in answers(learner, features, cell, plan.tasks, seed)
        ]
    )
    return {
        "way": cell.way,
        "shot": cell.shot,
        "accuracy": asdict(MeanEstimate.over(found)),
        "std_over_seeds": float(found.view(SEEDS, -1).mean(1).std()),
    }
