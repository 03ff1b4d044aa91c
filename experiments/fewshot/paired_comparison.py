"""Paired differences of two learners on the same tasks: way {2, 5, 10, 20} × shot {1, 2, 5}."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from experiments.errors import ExperimentError
from models.data.dataset import ClassDataset, model_input
from models.evaluation.episodic import Cell, accuracy, answers, embed_all, nll
from models.evaluation.scores import MeanEstimate
from models.inputs import InputSpec
from models.protocol import MetaLearner

WAYS, SHOTS = (2, 5, 10, 20), (1, 2, 5)


def compare(
    pairs: list[tuple[MetaLearner, MetaLearner]],
    test: ClassDataset,
    tasks: int,
    seed: int,
    spec: InputSpec | None = None,
) -> list[dict[str, Any]]:
    """Return a row per cell with differences ours − baseline over all tasks.

    `pairs` are (ours, baseline), one per training seed, all of one input. Raise `ExperimentError` if the learners
    have no number of classes in common.
    """
    inputs = model_input(test, spec)
    features = [
        tuple(embed_all(learner, inputs, test.labels, test.domains) for learner in pair) for pair in pairs
    ]
    supported = [set(learner.traits.ways.among(WAYS)) for pair in pairs for learner in pair]
    ways = sorted(set.intersection(*supported))
    if not ways:
        raise ExperimentError("the learners support no common number of classes")
    rows = []
    for way in ways:
        for shot in SHOTS:
            cell = Cell(way, shot)
            gain: dict[str, list[torch.Tensor]] = {"accuracy": [], "nll": []}
            mine: dict[str, list[torch.Tensor]] = {"accuracy": [], "nll": []}
            for pair, embedded in zip(pairs, features, strict=True):
                ours, theirs = (
                    [(accuracy(b), nll(b)) for b in answers(learner, values, cell, tasks, seed)]
                    for learner, values in zip(pair, embedded, strict=True)
                )
                for position, name in enumerate(("accuracy", "nll")):
                    own = torch.cat([row[position] for row in ours])
                    mine[name].append(own)
                    gain[name].append(own - torch.cat([row[position] for row in theirs]))
            row: dict[str, Any] = {"way": way, "shot": shot}
            for name in ("accuracy", "nll"):
                row[name] = asdict(MeanEstimate.over(torch.cat(mine[name])))
                row[f"{name}_difference"] = asdict(MeanEstimate.over(torch.cat(gain[name])))
                row[f"{name}_difference_per_seed"] = [float(part.mean()) for part in gain[name]]
            rows.append(row)
    return rows
