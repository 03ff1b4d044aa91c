"""Labelled vectors of any embedding: tasks of 5 classes, and of all classes at once."""

from __future__ import annotations

from typing import Any

from models.data.dataset import ClassDataset
from models.evaluation.episodic import answers, cells_of, embed_all, summary
from models.protocol import MetaLearner

SHOTS = (1, 5, 10)
FULL_WAY_TASKS = 10
_QUERIES = 15


def evaluate(learner: MetaLearner, data: ClassDataset, tasks: int, seed: int) -> dict[str, Any]:
    """Return the table of one learner."""
    features = embed_all(learner, data.inputs, data.labels, data.domains)
    classes, smallest = len(features.members), min(map(len, features.members))
    cells = [
        cell
        for cell in cells_of(learner.traits, (5, classes), SHOTS, _QUERIES)
        if cell.way <= classes and cell.shot + _QUERIES <= smallest
    ]
    return {
        "data": data.source.removesuffix(".npz"),
        "protocol": f"{classes} classes, {_QUERIES} queries per class; nothing trained on this set",
        "seed": seed,
        "dim": data.inputs.shape[1],
        "cells": [
            {"way": cell.way, "shot": cell.shot}
            | summary(
                list(answers(learner, features, cell, FULL_WAY_TASKS if cell.way == classes else tasks, seed))
            )
            for cell in cells
        ],
    }
