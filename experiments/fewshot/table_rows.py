"""Rows of the tables of one learner: each function returns one row, over the same tasks for every learner."""

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
"""Tasks with a coverage below this are counted, as conformal sets guarantee only the average."""
DISAGREEMENT_WAY = 5
_DISAGREEMENT_QUERIES = 5


@dataclass(frozen=True)
class EvaluationPlan:
    """Number of tasks, of tasks for resampled disagreement, and the seed of the tasks."""

    tasks: int = 1000
    disagreement_tasks: int = 100
    seed: int = 1000


def accuracy_row(
    learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan
) -> dict[str, Any]:
    found = [accuracy(batch) for batch in answers(learner, features, cell, plan.tasks, plan.seed)]
    return {"way": cell.way, "shot": cell.shot, "accuracy": asdict(MeanEstimate.over(torch.cat(found)))}


def cell_row(learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan) -> dict[str, Any]:
    """Return accuracy, calibration and prediction sets of one cell."""
    batches = list(answers(learner, features, cell, plan.tasks, plan.seed))
    return {"way": cell.way, "shot": cell.shot, **summary(batches), "sets": sets_rows(batches)}


def sets_rows(batches: list[Batch]) -> list[dict[str, Any]]:
    """Return rows of prediction sets, at each coverage, from tasks without foreign queries."""
    return [sets_row(batches, coverage) for coverage in COVERAGES]


def sets_row(batches: list[Batch], coverage: float) -> dict[str, Any]:
    """Return coverage, size and the share of badly covered tasks of the prediction sets at one coverage."""
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
    learner: MetaLearner, features: Features, base: Cell, near: bool, plan: EvaluationPlan, foreign_are: str
) -> dict[str, Any]:
    """Measure `unknown`. Half of the queries are foreign: from any test class or, if `near`, from the task's domain."""
    cell = replace(base, foreign=base.queries * base.way, within_domain=near)
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
    """Measure how much predictions change with the class labels; ideally not at all."""
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


def disagreement_row(
    learner: MetaLearner, features: Features, shot: int, plan: EvaluationPlan
) -> dict[str, Any]:
    """Compare the learner\'s epistemic uncertainty with the disagreement between resampled support sets."""
    way = learner.traits.ways.nearest(DISAGREEMENT_WAY)
    cell = Cell(way, shot, _DISAGREEMENT_QUERIES)
    found = disagreement(learner, features, cell, plan.disagreement_tasks, plan.seed + 2)
    return {
        "way": way,
        "shot": shot,
        "mean_disagreement": float(found.disagreement.mean()),
        "mean_epistemic": float(found.epistemic.mean()),
        "ratio": float(found.disagreement.mean() / found.epistemic.mean()),
        "spearman": scores.spearman(found.epistemic, found.disagreement),
        "tasks": plan.disagreement_tasks,
    }
