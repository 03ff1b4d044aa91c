"""Tables of one learner on one protocol: each function is one row, over the same tasks for every learner."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from models.evaluation import scores
from models.evaluation.episodic import Batch, Cell, Features, accuracy, answers, summary
from models.evaluation.resampled_disagreement import disagreement
from models.evaluation.scores import MeanEstimate
from models.protocol import MetaLearner

COVERAGES = (0.9, 0.99)
LOW_COVERAGE = 0.8
"""Tasks whose own coverage is under this are counted: conformal sets promise only the average."""
GOLD_WAY = 5
_GOLD_QUERIES = 5


@dataclass(frozen=True)
class EvaluationPlan:
    tasks: int = 1000
    gold_tasks: int = 100
    seed: int = 1000


def accuracy_row(
    learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan
) -> dict[str, Any]:
    found = [accuracy(batch) for batch in answers(learner, features, cell, plan.tasks, plan.seed)]
    return {"way": cell.way, "shot": cell.shot, "accuracy": asdict(MeanEstimate.over(torch.cat(found)))}


def cell_row(learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan) -> dict[str, Any]:
    batches = list(answers(learner, features, cell, plan.tasks, plan.seed))
    return {"way": cell.way, "shot": cell.shot, **summary(batches), "sets": sets_rows(batches)}


def sets_rows(batches: list[Batch]) -> list[dict[str, Any]]:
    """Prediction sets of tasks without foreign queries, at each coverage asked for."""
    return [_sets(batches, coverage) for coverage in COVERAGES]


def _sets(batches: list[Batch], coverage: float) -> dict[str, Any]:
    covered, sizes = [], []
    for batch in batches:
        sets = batch.answer.prediction_sets(coverage)
        covered.append(sets.gather(-1, batch.target[..., None])[..., 0].float().mean(1))
        sizes.append(sets.sum(-1).float().mean(1))
    per_task = torch.cat(covered)
    return {
        "asked": coverage,
        "coverage": asdict(MeanEstimate.over(per_task)),
        "mean_size": float(torch.cat(sizes).mean()),
        "tasks_under_80_percent": float((per_task < LOW_COVERAGE).float().mean()),
    }


def unknown_row(
    learner: MetaLearner, features: Features, asked: Cell, near: bool, plan: EvaluationPlan, foreign_are: str
) -> dict[str, Any]:
    """Half the queries are foreign: of any test class, or (near) of the task's own domain."""
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
        "foreign": foreign_are,
        "auroc_pooled": scores.auroc(flat, positive),
        "auroc_per_task": asdict(MeanEstimate.over(torch.tensor(per_task))),
        "ece": scores.calibration_error(likely, (flat >= 0.5) == positive),
        "brier": float((flat - positive.float()).square().mean()),
    }


def renamed_row(learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan) -> dict[str, Any]:
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
        "labels_changed": asdict(MeanEstimate.over(torch.cat(changed))),
        "probability_moved": asdict(MeanEstimate.over(torch.cat(moved))),
        "accuracy_difference": asdict(MeanEstimate.over(torch.cat(gained))),
    }


def gold_row(learner: MetaLearner, features: Features, shot: int, plan: EvaluationPlan) -> dict[str, Any]:
    way = learner.traits.ways.nearest(GOLD_WAY)
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
