"""Omniglot→EMNIST for a family of learners: one row per learner, on the same tasks, beside the papers' figures.

Accuracy, calibration, prediction sets and selective prediction use five seeds of tasks. Measurements that repeat the
tasks (`unknown`, other class names, the transductive mode, disagreement) use the first seed or the next ones.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch

from experiments.errors import ExperimentError
from experiments.fewshot.omniglot_emnist_protocol import SEEDS, SHOTS, TRAINING_CLASSES, WAYS, accuracies
from experiments.fewshot.reported_emnist import ReportedAccuracy, reported_for
from experiments.fewshot.table_rows import (
    EvaluationPlan,
    disagreement_row,
    renamed_row,
    sets_rows,
    unknown_row,
)
from experiments.fewshot.transductive_protocol import NAME as TRANSDUCTIVE
from experiments.fewshot.transductive_protocol import Transductive, has_batchnorm
from experiments.fewshot.uncertainty import PredictedQueries, reliability, selective
from models.artifact import Artifact
from models.data.dataset import ClassDataset, model_input
from models.evaluation.episodic import Cell, Features, accuracy, answers, cells_of, embed_all, summary
from models.evaluation.scores import MeanEstimate
from models.protocol import MetaLearner
from models.registry import LearnerConfig

PAPER, OPEN = "paper", "open"
_WAY = WAYS[0]
_PLAIN_CLASSES = "characters"
_OTHER_CLASSES = "not trained on Omniglot without Latin"
_AUGMENTATION = "--augmentation"


def evaluate(
    learners: Sequence[Artifact], test: ClassDataset, plan: EvaluationPlan, log: Callable[[str], None]
) -> dict[str, Any]:
    """Return the table. `log` receives the name of each learner before it is measured.

    Raise `ExperimentError` if none of them can be measured by this protocol.
    """
    refused = {artifact.name: _refusal(artifact) for artifact in learners}
    chosen = [artifact for artifact in learners if refused[artifact.name] is None]
    left_out = [{"learner": name, "reason": reason} for name, reason in refused.items() if reason]
    if not chosen:
        raise ExperimentError(
            "none of the learners can be measured by this protocol: "
            + ("; ".join(f"{row['learner']}: {row['reason']}" for row in left_out) or "there are none")
        )
    rows = []
    for artifact in chosen:
        log(artifact.name)
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
    """Return accuracies of one learner in a mode that is not served, named `mode`, beside those as served.

    `wrap` converts a learner to one whose features are the inputs; it raises `LearnerError` if the learner has no such
    mode. Raise `ExperimentError` if the learner was trained on other classes.
    """
    learner, config = artifact.learner, artifact.config
    if config.training_classes not in TRAINING_CLASSES:
        raise ExperimentError(f"{artifact.name}: {_OTHER_CLASSES}")
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
    """Return the paper's track if training used plain characters: no augmentation, no rotated or mirrored classes."""
    plain = TRAINING_CLASSES.get(config.training_classes or "") == _PLAIN_CLASSES
    return PAPER if plain and not _augmented(str(config.training.get("command", ""))) else OPEN


def _augmented(command: str) -> bool:
    """Return True if any training of the command augmented glyphs, which is the default."""
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
        return _OTHER_CLASSES
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
    reported = reported_for(config.method, open_track=track == OPEN)
    cells = [Cell(_WAY, shot) for shot in SHOTS if shot in learner.traits.shots]
    rows = [_cell(learner, features, cell, test, plan) for cell in cells]
    if track == PAPER and reported is not None and reported.transductive and has_batchnorm(learner):
        raw, measured = Features(inputs, features.members, features.domains), Transductive(learner)
        for cell, row in zip(cells, rows, strict=True):
            row["transductive"] = {"protocol": TRANSDUCTIVE, "accuracy": _accuracy(measured, raw, cell, plan)}
    for row in rows:
        row["reported"] = _compared(row, reported)
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
    batches, mean_weights = [], []
    for seed in range(plan.seed, plan.seed + SEEDS):
        for batch in answers(learner, features, cell, plan.tasks, seed):
            if learner.traits.stochastic:
                mean_weights.append(accuracy(batch.without_noise(learner)))
            batches.append(batch.slim())
    queries = PredictedQueries.from_batches(batches)
    return {
        "way": cell.way,
        "shot": cell.shot,
        "n_tasks": plan.tasks * SEEDS,
        **accuracies(batches, test),
        "transductive": None,
        "mean_weights_accuracy": asdict(MeanEstimate.over(torch.cat(mean_weights))) if mean_weights else None,
        **{name: value for name, value in summary(batches).items() if name != "accuracy"},
        "sets": sets_rows(batches),
        "answered": selective(queries),
        "unknown": _unknown(learner, features, cell, plan),
        "renamed": renamed_row(learner, features, cell, plan) if learner.traits.ways.high else None,
        "epistemic": disagreement_row(learner, features, cell.shot, plan)
        if learner.traits.stochastic
        else None,
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


def _compared(row: dict[str, Any], reported: ReportedAccuracy | None) -> dict[str, Any] | None:
    """Return the reported figure and ours minus it, as served and in the mode of the paper."""
    if reported is None or (figure := reported.at(row["shot"])) is None:
        return None
    as_served = row["accuracy"]["mean"] - figure
    transductive = row["transductive"]
    return {
        "as_reported": figure,
        "name": reported.name,
        "source": reported.source,
        "difference_inductive": as_served,
        "difference_in_its_mode": transductive["accuracy"]["mean"] - figure if transductive else as_served,
    }
