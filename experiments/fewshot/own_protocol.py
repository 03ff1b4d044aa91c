"""Measurement of learners and baselines on a data set that nobody here has seen, paired: all answer the same tasks.

Per cell: accuracy, likelihood and calibration of each; differences learner − baseline with intervals over tasks, also
against the best baseline chosen after the fact; prediction sets, `unknown`, the epistemic part against redrawn support
sets, and the domain check `fit` of learners that have one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from experiments.fewshot.baseline_runs import BaselineRun, Runner
from experiments.fewshot.own_cells import OwnCell, foreign_draws, own_cells
from experiments.fewshot.own_features import FeatureSpace, OwnFeatures, own_features
from experiments.fewshot.table_rows import sets_row
from models.artifact import Artifact
from models.data.dataset import DatasetError
from models.data.examples import RawExamples
from models.evaluation import scores
from models.evaluation.episodic import Batch, Cell, Draw, accuracy, answer_draws, draws, nll, summary
from models.evaluation.resampled_disagreement import disagreement
from models.evaluation.scores import MeanEstimate
from models.protocol import MetaLearner

COVERAGE = 0.9
REFUSED = 0.5
"""Queries with `unknown` above this are counted as refused."""
_GOLD_WAY, _GOLD_QUERIES, _MOST_GOLD_TASKS = 5, 5, 60
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class OwnPlan:
    """Number of 5-way tasks, the seed of all draws, and the most examples of the data set that are used."""

    tasks: int = 200
    seed: int = 1000
    most_examples: int = 20_000


@dataclass(frozen=True)
class _Answered:
    """Scores of a learner or baseline per task of a cell; None where there are no probabilities."""

    accuracy: Float[Tensor, "tasks"]
    nll: Float[Tensor, "tasks"] | None


def evaluate(
    learners: Sequence[Artifact],
    examples: RawExamples,
    plan: OwnPlan,
    runner: Runner,
    progress: Callable[[int, int, str], None],
) -> dict[str, Any]:
    """Return all figures of one data set; `progress` is told steps done, steps in all, and what is done now.

    `learners` take the data set's inputs. Raises `DatasetError` if it is too small for any task.
    """
    used = examples.drawn(plan.most_examples, plan.seed)
    cells, notes = own_cells(used.counts, plan.tasks)
    if not cells:
        raise DatasetError(f"{examples.source}: no task can be drawn: fewer than 2 classes have 2 examples")
    if len(used) < len(examples):
        dropped = len(examples.class_names) - len(used.class_names)
        classes = f" and {dropped} of the classes left out" if dropped else ""
        notes.insert(0, f"{len(used)} of {len(examples)} examples were drawn{classes} (seed {plan.seed})")
    progress(0, len(cells) + 1, "embedding")
    features = own_features(learners, used)
    rows = []
    for done, own in enumerate(cells, 1):
        progress(done, len(cells) + 1, f"{own.cell.way}-way {own.cell.shot}-shot")
        rows.append(_cell_row(learners, features, own, plan, runner))
    progress(len(cells) + 1, len(cells) + 1, "done")
    return {
        "data": examples.source,
        "inputs": f"{examples.kind}s",
        "examples": len(used),
        "classes": len(used.class_names),
        "smallest_class": int(used.counts.min()),
        "largest_class": int(used.counts.max()),
        "seed": plan.seed,
        "feature_spaces": [
            {"name": space.name, "read_as": space.scaling, "numbers": space.rows.shape[1]}
            for space in features.spaces
        ],
        "notes": notes,
        "cells": rows,
    }


def _cell_row(
    learners: Sequence[Artifact], whole: OwnFeatures, own: OwnCell, plan: OwnPlan, runner: Runner
) -> dict[str, Any]:
    cell = own.cell
    first = own.features(next(iter(whole.by_learner.values())))
    drawn = draws(first, cell, own.tasks, plan.seed)
    runs = {
        space.name: runner.run(space.scaling, space.rows, drawn, cell.way, cell.shot)
        for space in whole.spaces
    }
    rows, answered = {}, {}
    for one in learners:
        if cell.way in one.learner.traits.ways and cell.shot in one.learner.traits.shots:
            rows[one.name], answered[one.name] = _learner_row(one.learner, whole, one.name, own, drawn, plan)
    return {
        "way": cell.way,
        "shot": cell.shot,
        "queries_per_class": cell.queries,
        "tasks": own.tasks,
        "classes": len(own.classes),
        "learners": rows,
        "baselines": [
            {"features": space, "baseline": name, **_baseline_row(run)}
            for space, found in runs.items()
            for name, run in found.items()
        ],
        "differences": [
            {"learner": name, **row}
            for name, mine in answered.items()
            for row in _differences(mine, whole.spaces_of(name), runs)
        ]
        + [
            {"learner": name, **_difference(mine, "learner", first_learner, answered[first_learner])}
            for first_learner in list(answered)[:1]
            for name, mine in list(answered.items())[1:]
        ],
    }


def _learner_row(
    learner: MetaLearner,
    whole: OwnFeatures,
    name: str,
    own: OwnCell,
    drawn: Sequence[Draw],
    plan: OwnPlan,
) -> tuple[dict[str, Any], _Answered]:
    features = own.features(whole.by_learner[name])
    batches: list[Batch] = []
    fit: list[Tensor] = []
    for batch in answer_draws(learner, features, own.cell, drawn, plan.seed):
        if "fit" in batch.weights.task:
            fit.append(batch.weights.task["fit"].cpu())
        batches.append(batch.slim())
    answered = _Answered(
        torch.cat([accuracy(batch) for batch in batches]), torch.cat([nll(batch) for batch in batches])
    )
    row = {
        **summary(batches),
        "sets": sets_row(batches, COVERAGE),
        "unknown": None,
        "epistemic": None,
        "fit": _distribution(torch.cat(fit)) if fit else None,
    }
    foreign = foreign_draws(own, features, plan.seed + 1)
    if foreign is not None and foreign[0].way in learner.traits.ways:
        row["unknown"] = _unknown_row(
            [batch.slim() for batch in answer_draws(learner, features, *foreign, plan.seed + 1)], foreign[0]
        )
    gold = Cell(_GOLD_WAY, own.cell.shot, _GOLD_QUERIES)
    # Redrawn support sets overlap: with less room than twice the shots they would agree by that alone.
    roomy = features.smallest >= _GOLD_QUERIES + 2 * gold.shot
    if learner.traits.stochastic and own.cell.way == _GOLD_WAY and roomy:
        tasks = min(_MOST_GOLD_TASKS, own.tasks)
        found = disagreement(learner, features, gold, tasks, plan.seed + 2)
        row["epistemic"] = {
            "mean_disagreement": float(found.disagreement.mean()),
            "mean_epistemic": float(found.epistemic.mean()),
            "ratio": _ratio(float(found.disagreement.mean()), float(found.epistemic.mean())),
            "spearman": _finite(scores.spearman(found.epistemic, found.disagreement)),
            "tasks": tasks,
        }
    return row, answered


def _unknown_row(batches: Sequence[Batch], cell: Cell) -> dict[str, Any] | None:
    """Return how `unknown` tells the known from the foreign queries, None if the learner has no such answer."""
    score, foreign, per_task = [], [], []
    for batch in batches:
        if batch.answer.unknown is None:
            return None
        score.append(batch.answer.unknown)
        foreign.append(~batch.known)
        per_task += [scores.auroc(s, f) for s, f in zip(score[-1], foreign[-1], strict=True)]
    found, positive = torch.cat(score), torch.cat(foreign)
    refused = (found > REFUSED).float()
    flat, flat_positive = found.flatten(), positive.flatten()
    likely = torch.where(flat >= REFUSED, flat, 1 - flat)
    return {
        "way": cell.way,
        "known_refused": asdict(MeanEstimate.over((refused * ~positive).sum(1) / (~positive).sum(1))),
        "foreign_refused": asdict(MeanEstimate.over((refused * positive).sum(1) / positive.sum(1))),
        "auroc_pooled": scores.auroc(flat, flat_positive),
        "auroc_per_task": asdict(MeanEstimate.over(torch.tensor(per_task))),
        "ece": scores.calibration_error(likely, (flat >= REFUSED) == flat_positive),
        "brier": float((flat - flat_positive.float()).square().mean()),
    }


def _baseline_row(run: BaselineRun | None) -> dict[str, Any]:
    """Return None for every figure of a baseline that needs more shots."""
    if run is None:
        return {"accuracy": None, "nll": None, "ece": None, "brier": None}
    row: dict[str, Any] = {"accuracy": asdict(MeanEstimate.over(torch.from_numpy(run.accuracy)))}
    if run.nll is None:
        return row | {"nll": None, "ece": None, "brier": None}
    confidence, right = torch.from_numpy(run.confidence).flatten(), torch.from_numpy(run.right).flatten()
    return row | {
        "nll": asdict(MeanEstimate.over(torch.from_numpy(run.nll))),
        "ece": scores.calibration_error(confidence, right),
        "brier": float(run.brier.mean()),
    }


def _differences(
    mine: _Answered, spaces: Sequence[FeatureSpace], runs: dict[str, dict[str, BaselineRun | None]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one learner: against each baseline, and against the best of each measure."""
    measured = {
        (space.name, name): _Answered(
            torch.from_numpy(run.accuracy), None if run.nll is None else torch.from_numpy(run.nll)
        )
        for space in spaces
        for name, run in runs[space.name].items()
        if run is not None
    }
    for (space, name), other in measured.items():
        yield _difference(mine, name, space, other)
    likely = {key: other.nll for key, other in measured.items() if other.nll is not None}
    best = max(measured, key=lambda key: float(measured[key].accuracy.mean()))
    best_nll = min(likely, key=lambda key: float(likely[key].mean()))
    row = _difference(mine, "best", "any", _Answered(measured[best].accuracy, likely[best_nll]))
    yield row | {"best_accuracy_is": list(best), "best_nll_is": list(best_nll)}


def _difference(mine: _Answered, against: str, features: str, other: _Answered) -> dict[str, Any]:
    has_nll = mine.nll is not None and other.nll is not None
    return {
        "against": against,
        "features": features,
        "accuracy": asdict(MeanEstimate.over(mine.accuracy.double() - other.accuracy.double())),
        "nll": asdict(MeanEstimate.over(mine.nll.double() - other.nll.double())) if has_nll else None,  # type: ignore[union-attr]
    }


def _distribution(values: Float[Tensor, "tasks"]) -> dict[str, Any]:
    quantiles = np.quantile(values.double().numpy(), _QUANTILES).tolist()
    return {
        "mean": float(values.double().mean()),
        "quantiles": {f"{share:g}": value for share, value in zip(_QUANTILES, quantiles, strict=True)},
    }


def _ratio(gold: float, own: float) -> float | None:
    return gold / own if own > 0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
