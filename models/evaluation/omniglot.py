"""Omniglot, Vinyals protocol: accuracy, calibration, unknown, prediction sets and the gold check, on test characters.

Both counts are measured: the 423 test characters, and 1,692 with rotations as classes, as published.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from models.data.dataset import ClassDataset, model_input
from models.evaluation import scores
from models.evaluation.episodic import (
    Batch,
    Cell,
    Features,
    accuracy,
    answers,
    cells_of,
    embed_all,
    summary,
)
from models.evaluation.gold import disagreement
from models.evaluation.scores import Estimate
from models.protocol import MetaLearner

WAYS, SHOTS = (5, 20), (1, 5)
COVERAGES = (0.9, 0.99)
LOW_COVERAGE = 0.8
"""Tasks whose own coverage is under this are counted: conformal sets promise only the average."""
_GOLD_QUERIES = 5
_MOST_NEAR = 5
"""Ways up to which foreign queries are also drawn from the task's own alphabet, which must hold more."""


@dataclass(frozen=True)
class Plan:
    tasks: int = 1000
    gold_tasks: int = 100
    seed: int = 1000


def evaluate(learner: MetaLearner, test: ClassDataset, plan: Plan) -> dict[str, Any]:
    """All tables of one learner. `test` holds the test characters as published pictures."""
    plain = _features(learner, test)
    turned = _features(learner, test.rotations())
    asked = cells_of(learner.traits, WAYS, SHOTS)
    cells = [_cell(learner, plain, cell, plan) for cell in asked]
    result = {
        "protocol": "Omniglot, Vinyals split; queries per class 15; inductive",
        "tasks": plan.tasks,
        "seed": plan.seed,
        "characters": cells,
        "characters_with_rotations": [_accuracy(learner, turned, cell, plan) for cell in asked],
        "ece_mean_over_cells": sum(cell["ece"] for cell in cells) / len(cells),
        "unknown": [
            _unknown(learner, plain, cell, near, plan)
            for cell in asked
            for near in (False, True)
            if not (near and cell.way > _MOST_NEAR)
        ],
    }
    result["classes_renamed"] = [_renamed(learner, plain, cell, plan) for cell in asked]
    if learner.traits.stochastic:
        result["epistemic"] = [_gold(learner, plain, shot, plan) for shot in (1, 2, 5, 10)]
    return result


def _features(learner: MetaLearner, data: ClassDataset) -> Features:
    return embed_all(learner, model_input(data), data.labels, data.domains)


def _accuracy(learner: MetaLearner, features: Features, cell: Cell, plan: Plan) -> dict[str, Any]:
    found = [accuracy(batch) for batch in answers(learner, features, cell, plan.tasks, plan.seed)]
    return {"way": cell.way, "shot": cell.shot, "accuracy": asdict(Estimate.over(torch.cat(found)))}


def _cell(learner: MetaLearner, features: Features, cell: Cell, plan: Plan) -> dict[str, Any]:
    batches = list(answers(learner, features, cell, plan.tasks, plan.seed))
    sets = [_sets(batches, coverage) for coverage in COVERAGES]
    return {"way": cell.way, "shot": cell.shot, **summary(batches), "sets": sets}


def _sets(batches: list[Batch], coverage: float) -> dict[str, Any]:
    covered, sizes = [], []
    for batch in batches:
        sets = batch.answer.prediction_sets(coverage)
        covered.append(sets.gather(-1, batch.target[..., None])[..., 0].float().mean(1))
        sizes.append(sets.sum(-1).float().mean(1))
    per_task = torch.cat(covered)
    return {
        "asked": coverage,
        "coverage": asdict(Estimate.over(per_task)),
        "mean_size": float(torch.cat(sizes).mean()),
        "tasks_under_80_percent": float((per_task < LOW_COVERAGE).float().mean()),
    }


def _unknown(learner: MetaLearner, features: Features, asked: Cell, near: bool, plan: Plan) -> dict[str, Any]:
    """Half the queries are foreign: of any test alphabet, or (near) of the task's own."""
    cell = replace(asked, foreign=asked.queries * asked.way, within_domain=near)
    score, foreign, per_task = [], [], []
    for batch in answers(learner, features, cell, plan.tasks, plan.seed + 1):
        assert batch.answer.unknown is not None
        score.append(batch.answer.unknown)
        foreign.append(~batch.known)
        per_task += [scores.auroc(s, f) for s, f in zip(score[-1], foreign[-1], strict=True)]
    flat, positive = torch.cat(score).flatten(), torch.cat(foreign).flatten()
    likely = torch.where(flat >= 0.5, flat, 1 - flat)
    return {
        "way": cell.way,
        "shot": cell.shot,
        "foreign": "same alphabet" if near else "any test alphabet",
        "auroc_pooled": scores.auroc(flat, positive),
        "auroc_per_task": asdict(Estimate.over(torch.tensor(per_task))),
        "ece": scores.calibration_error(likely, (flat >= 0.5) == positive),
        "brier": float((flat - positive.float()).square().mean()),
    }


def _renamed(learner: MetaLearner, features: Features, cell: Cell, plan: Plan) -> dict[str, Any]:
    """What other class labels would change: nothing in a perfect world."""
    changed, moved, gained = [], [], []
    pairs = (
        answers(learner, features, cell, plan.tasks, plan.seed, renamed=renamed) for renamed in (False, True)
    )
    for one, other in zip(*pairs, strict=True):
        differs = one.answer.log_probs.argmax(-1) != other.answer.log_probs.argmax(-1)
        changed.append(differs.float().mean(1))
        moved.append((one.answer.probabilities - other.answer.probabilities).abs().amax(-1).mean(1))
        gained.append(accuracy(other) - accuracy(one))
    return {
        "way": cell.way,
        "shot": cell.shot,
        "labels_changed": asdict(Estimate.over(torch.cat(changed))),
        "probability_moved": asdict(Estimate.over(torch.cat(moved))),
        "accuracy_difference": asdict(Estimate.over(torch.cat(gained))),
    }


def _gold(learner: MetaLearner, features: Features, shot: int, plan: Plan) -> dict[str, Any]:
    way = learner.traits.ways.nearest(WAYS[0])
    found = disagreement(learner, features, Cell(way, shot, _GOLD_QUERIES), plan.gold_tasks, plan.seed + 2)
    return {
        "way": way,
        "shot": shot,
        "mean_disagreement": float(found.disagreement.mean()),
        "mean_epistemic": float(found.epistemic.mean()),
        "ratio": float(found.disagreement.mean() / found.epistemic.mean()),
        "spearman": scores.spearman(found.epistemic, found.disagreement),
        "tasks": plan.gold_tasks,
    }
