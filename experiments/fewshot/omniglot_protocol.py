"""Omniglot, Vinyals protocol: accuracy, calibration, `unknown`, prediction sets and resampled disagreement.

Both class counts are measured: the 423 test characters, and 1,692 classes including rotations, as published.
"""

from __future__ import annotations

from typing import Any

from experiments.fewshot.table_rows import (
    EvaluationPlan,
    accuracy_row,
    cell_row,
    disagreement_row,
    renamed_row,
    unknown_row,
)
from models.data.dataset import ClassDataset, model_input
from models.evaluation.episodic import Features, cells_of, embed_all
from models.inputs import InputSpec
from models.protocol import MetaLearner

WAYS, SHOTS = (5, 20), (1, 5)
_MOST_SAME_ALPHABET_WAY = 5
"""Largest way for which foreign queries are also drawn from the task's own alphabet, which needs further characters."""


def evaluate(
    learner: MetaLearner, spec: InputSpec, test: ClassDataset, plan: EvaluationPlan
) -> dict[str, Any]:
    """Return all tables of one learner. `test` holds the published images of the test characters."""
    plain = _features(learner, test, spec)
    rotated = _features(learner, test.rotations(), spec)
    measured_cells = cells_of(learner.traits, WAYS, SHOTS)
    cells = [cell_row(learner, plain, cell, plan) for cell in measured_cells]
    result = {
        "protocol": "Omniglot, Vinyals split; queries per class 15; inductive",
        "tasks": plan.tasks,
        "seed": plan.seed,
        "characters": cells,
        "characters_with_rotations": [accuracy_row(learner, rotated, cell, plan) for cell in measured_cells],
        "ece_mean_over_cells": sum(cell["ece"] for cell in cells) / len(cells),
        "unknown": [
            unknown_row(learner, plain, cell, near, plan, "same alphabet" if near else "any test alphabet")
            for cell in measured_cells
            for near in (False, True)
            if not (near and cell.way > _MOST_SAME_ALPHABET_WAY)
        ],
    }
    result["classes_renamed"] = [renamed_row(learner, plain, cell, plan) for cell in measured_cells]
    if learner.traits.stochastic:
        result["epistemic"] = [disagreement_row(learner, plain, shot, plan) for shot in (1, 2, 5, 10)]
    return result


def _features(learner: MetaLearner, data: ClassDataset, spec: InputSpec) -> Features:
    return embed_all(learner, model_input(data, spec), data.labels, data.domains)
