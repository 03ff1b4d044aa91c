"""Omniglot→EMNIST for a whole family: one row per learner, on the same tasks, beside what the papers report.

Five seeds of tasks for accuracy, calibration, prediction sets and selective answers; the first seed alone, or a
neighbour of it, for what asks the tasks again (`unknown`, other class names, the transductive mode, disagreement).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from experiments.fewshot.omniglot_emnist_protocol import SEEDS, SHOTS, TRAINING_CLASSES, WAYS, accuracies
from experiments.fewshot.reported_emnist import ReportedAccuracy, reported_for
from experiments.fewshot.table_rows import EvaluationPlan, gold_row, renamed_row, sets_rows, unknown_row
from experiments.fewshot.transductive_protocol import NAME as TRANSDUCTIVE
from experiments.fewshot.transductive_protocol import Transductive, has_batchnorm
from experiments.fewshot.uncertainty import Queries, reliability, selective
from models.artifact import Artifact
from models.data.dataset import ClassDataset, model_input
from models.evaluation.episodic import Cell, Features, accuracy, answers, cells_of, embed_all, summary
from models.evaluation.scores import MeanEstimate
from models.protocol import LearnerError, MetaLearner
from models.registry import LearnerConfig

PAPER, OPEN = "paper", "open"
_WAY = WAYS[0]
_PLAIN_CLASSES = "characters"
_NOT_WITHOUT_LATIN = "not trained on Omniglot without Latin"
_AUGMENTATION = "--augmentation"

Follow = Callable[[str], None]


def evaluate(
    found: Sequence[Artifact], test: ClassDataset, plan: EvaluationPlan, follow: Follow
) -> dict[str, Any]:
    """The table. `follow` is told of each learner before it is measured.

    Raises `LearnerError` when none of them may be measured by this protocol.
    """
    refused = {artifact.name: _refusal(artifact) for artifact in found}
    chosen = [artifact for artifact in found if refused[artifact.name] is None]
    left_out = [{"learner": name, "reason": reason} for name, reason in refused.items() if reason]
    if not chosen:
        raise LearnerError(
            "none of the learners can be measured: "
            + ("; ".join(f"{row['learner']}: {row['reason']}" for row in left_out) or "there are none")
        )
    rows = []
    for artifact in chosen:
        follow(artifact.name)
        rows.append(_row(artifact, test, plan))
    return {
        "protocol": f"Omniglot without Latin → EMNIST, {len(test.class_names)} test classes, {_WAY} ways; "
        "15 queries per class; inductive unless a column says otherwise",
        "tasks": f"{plan.tasks} for each of {SEEDS} seeds from {plan.seed}",
        "images": test.source,
        "family": rows,
        "left_out": left_out,
    }


def rows_in_mode(
    artifact: Artifact,
    test: ClassDataset,
    plan: EvaluationPlan,
    mode: str,
    wrap: Callable[[MetaLearner], MetaLearner],
) -> list[dict[str, Any]]:
    """Accuracies of one learner in a mode that does not serve, named `mode`, beside those that it serves.

    `wrap` makes of a learner one whose features are the inputs. Raises `LearnerError` where it has no such mode.
    """
    learner, config = artifact.learner, artifact.config
    if config.training_classes not in TRAINING_CLASSES:
        raise LearnerError(f"{artifact.name}: {_NOT_WITHOUT_LATIN}")
    inputs, wrapped = model_input(test, config.input), wrap(learner)
    features = embed_all(learner, inputs, test.labels, test.domains)
    raw = Features(inputs, features.members, features.domains)
    return [
        {
            "learner": f"{artifact.name} {artifact.short_digest}",
            "way": cell.way,
            "shot": cell.shot,
            mode: _accuracy(wrapped, raw, cell, plan),
            "as_served": _accuracy(learner, features, cell, plan),
        }
        for cell in cells_of(learner.traits, WAYS, SHOTS)
    ]


def track_of(config: LearnerConfig) -> str:
    """The paper's where glyphs were trained on as they are: not augmented, no rotations or mirror images as classes."""
    plain = TRAINING_CLASSES.get(config.training_classes or "") == _PLAIN_CLASSES
    return PAPER if plain and not _augmented(str(config.training.get("command", ""))) else OPEN


def _augmented(command: str) -> bool:
    """Whether any training of the command changed glyphs, which is the default."""
    return any(_strength(part) != 0 for part in command.split("&&"))


def _strength(command: str) -> float:
    words = shlex.split(command)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == _AUGMENTATION:
            return float(value or following)
    return 1.0


def _refusal(artifact: Artifact) -> str | None:
    """Why a learner has no row."""
    traits = artifact.learner.traits
    if artifact.config.training_classes not in TRAINING_CLASSES:
        return _NOT_WITHOUT_LATIN
    if traits.kind != "classification":
        return "does not classify"
    if _WAY not in traits.ways:
        return f"takes {traits.ways} classes, not {_WAY}"
    return None


def _row(artifact: Artifact, test: ClassDataset, plan: EvaluationPlan) -> dict[str, Any]:
    start, computed = time.perf_counter(), time.process_time()
    learner, config = artifact.learner, artifact.config
    inputs = model_input(test, config.input)
    features = embed_all(learner, inputs, test.labels, test.domains)
    track = track_of(config)
    report = reported_for(config.method, open_track=track == OPEN)
    cells = [Cell(_WAY, shot) for shot in SHOTS if shot in learner.traits.shots]
    rows = [_cell(learner, features, cell, test, plan) for cell in cells]
    if track == PAPER and report is not None and report.transductive and has_batchnorm(learner):
        raw, measured = Features(inputs, features.members, features.domains), Transductive(learner)
        for cell, row in zip(cells, rows, strict=True):
            row["transductive"] = {"protocol": TRANSDUCTIVE, "accuracy": _accuracy(measured, raw, cell, plan)}
    for row in rows:
        row["reported"] = _held_against(row, report)
    return {
        "learner": artifact.name,
        "digest": artifact.short_digest,
        "method": config.method,
        "track": track,
        "trained_on": TRAINING_CLASSES[config.training_classes or ""],
        "steps": config.training.get("steps"),
        "cells": rows,
        "ece_mean_over_cells": sum(row["ece"] for row in rows) / len(rows),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - computed, 1),
    }


def _cell(
    learner: MetaLearner, features: Features, cell: Cell, test: ClassDataset, plan: EvaluationPlan
) -> dict[str, Any]:
    batches, of_mean = [], []
    for seed in range(plan.seed, plan.seed + SEEDS):
        for batch in answers(learner, features, cell, plan.tasks, seed):
            if learner.traits.stochastic:
                of_mean.append(accuracy(batch.without_noise(learner)))
            batches.append(batch.slim())
    queries = Queries.of(batches)
    return {
        "way": cell.way,
        "shot": cell.shot,
        "n_tasks": plan.tasks * SEEDS,
        **accuracies(batches, test),
        "transductive": None,
        "mean_weights_accuracy": asdict(MeanEstimate.over(torch.cat(of_mean))) if of_mean else None,
        **{name: value for name, value in summary(batches).items() if name != "accuracy"},
        "sets": sets_rows(batches),
        "answered": selective(queries),
        "unknown": _unknown(learner, features, cell, plan),
        "renamed": renamed_row(learner, features, cell, plan) if learner.traits.ways.high else None,
        "epistemic": gold_row(learner, features, cell.shot, plan) if learner.traits.stochastic else None,
        "reliability": reliability(queries),
    }


def _unknown(
    learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan
) -> dict[str, Any] | None:
    if learner.calibration is None or not learner.calibration.has_unknown:
        return None
    return unknown_row(learner, features, cell, False, plan, "any test class")


def _accuracy(learner: MetaLearner, features: Features, cell: Cell, plan: EvaluationPlan) -> dict[str, Any]:
    found = [accuracy(batch) for batch in answers(learner, features, cell, plan.tasks, plan.seed)]
    return asdict(MeanEstimate.over(torch.cat(found)))


def _held_against(row: dict[str, Any], report: ReportedAccuracy | None) -> dict[str, Any] | None:
    """The reported figure, and ours minus it: of the mode that the paper measured in, and of the one that serves."""
    if report is None or (figure := report.at(row["shot"])) is None:
        return None
    as_served = row["accuracy"]["mean"] - figure
    transductive = row["transductive"]
    return {
        "as_reported": figure,
        "name": report.name,
        "source": report.source,
        "difference_inductive": as_served,
        "difference_in_its_mode": transductive["accuracy"]["mean"] - figure if transductive else as_served,
    }
