"""Any embedding: tasks of 5 classes and of every class at once, from a set of labelled vectors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from models.data.dataset import ClassDataset
from models.evaluation import scores
from models.evaluation.episodic import Cell, Features, accuracy, answers, embed_all, nll
from models.evaluation.scores import Estimate
from models.protocol import MetaLearner

SHOTS = (1, 5, 10)
FULL_WAY_TASKS = 10
_QUERIES = 15


def evaluate(learner: MetaLearner, data: ClassDataset, tasks: int, seed: int) -> dict[str, Any]:
    features = embed_all(learner, data.inputs, data.labels, data.domains)
    classes, smallest = len(features.members), min(map(len, features.members))
    cells = [
        Cell(way, shot, _QUERIES) for way in (5, classes) for shot in SHOTS if shot + _QUERIES <= smallest
    ]
    return {
        "data": data.source.removesuffix(".npz"),
        "protocol": f"{classes} classes, {_QUERIES} queries per class; nothing trained on this set",
        "seed": seed,
        "dim": data.inputs.shape[1],
        "cells": [
            _cell(learner, features, cell, FULL_WAY_TASKS if cell.way == classes else tasks, seed)
            for cell in cells
        ],
    }


def _cell(learner: MetaLearner, features: Features, cell: Cell, tasks: int, seed: int) -> dict[str, Any]:
    batches = list(answers(learner, features, cell, tasks, seed))
    probabilities = torch.cat([batch.answer.probabilities.flatten(0, 1) for batch in batches])
    target = torch.cat([batch.target.flatten() for batch in batches])
    confidence, label = probabilities.max(-1)
    return {
        "way": cell.way,
        "shot": cell.shot,
        "accuracy": asdict(Estimate.over(torch.cat([accuracy(batch) for batch in batches]))),
        "nll": asdict(Estimate.over(torch.cat([nll(batch) for batch in batches]))),
        "ece": scores.calibration_error(confidence, label == target),
    }
