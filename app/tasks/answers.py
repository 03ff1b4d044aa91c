"""From rows and predictive distributions to answers on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from app.db.tables import TaskRow, VersionRow
from app.http.problems import fail
from hyperserve.types import Answer, Page, Prediction, Task, TaskKind, Version
from models.predictive import Categorical, Predictive

PAGE_LABELS = 5_000
"""Of a page together: thousands of labels each would make it tens of megabytes."""


def predictions(
    predictive: Predictive, classes: Sequence[str], *, coverage: float, top: int | None
) -> list[Prediction]:
    """Of a batch of one task. `label` is the argmax; with `top`, classes stand in falling order."""
    if not isinstance(predictive, Categorical):
        raise NotImplementedError(f"answers of kind {type(predictive).__name__} have no place on this route")
    log_probs = predictive.log_probs[0].double()
    probabilities = log_probs.exp() / log_probs.exp().sum(-1, keepdim=True)
    if not bool(probabilities.isfinite().all()):
        raise fail("numerical_overflow", "The answers are not finite; scale the inputs down.", "/queries")
    order = predictive.ranking()[0]
    inside = predictive.prediction_sets(coverage)[0].tolist()
    entropy = predictive.entropy[0].clamp_min(0).tolist()
    epistemic = None if predictive.epistemic is None else predictive.epistemic[0].tolist()
    unknown = None if predictive.unknown is None else predictive.unknown[0].tolist()
    answers = []
    for query, (row, ranked) in enumerate(zip(probabilities.tolist(), order.tolist(), strict=True)):
        shown = range(len(classes)) if top is None else ranked[:top]
        answers.append(
            Prediction(
                label=classes[ranked[0]],
                confidence=row[ranked[0]],
                probabilities={classes[index]: row[index] for index in shown},
                unknown=None if unknown is None else unknown[query],
                entropy=entropy[query],
                epistemic=None if epistemic is None else epistemic[query],
                prediction_set=[classes[index] for index in ranked if inside[query][index]],
            )
        )
    return answers


class _Contents(TypedDict):
    kind: TaskKind
    classes: list[str]
    shots: dict[str, int]
    examples: int


def _contents(version: VersionRow) -> _Contents:
    """Of a support set."""
    return {
        "kind": "classification" if version.target is None else "regression",
        "classes": version.classes,
        # Of a task of values, which has no classes, the one number is that of its examples.
        "shots": dict(zip(version.classes, version.shots, strict=version.target is None)),
        "examples": sum(version.shots),
    }


def task_answer(task: TaskRow, version: VersionRow) -> Task:
    """A task as one of its versions has it."""
    return Task(
        id=task.id,
        name=task.name,
        version=version.number,
        learner=version.learner,
        learner_digest=version.learner_digest[:16],
        created_at=task.created_at,
        **_contents(version),
    )


def version_answer(task: TaskRow, version: VersionRow) -> Version:
    return Version(
        number=version.number,
        parent=version.parent,
        origin=version.origin,
        current=version.number == task.current,
        learner=version.learner,
        learner_digest=version.learner_digest[:16],
        created_at=version.created_at,
        **_contents(version),
    )


def within_labels(ways: Sequence[tuple[str, int]], limit: int) -> list[str]:
    """Ids of the first rows, of some classes each, that make one page; at least one of them if there is any."""
    ids: list[str] = []
    labels = 0
    for id, way in ways[:limit]:
        labels += way
        if ids and labels > PAGE_LABELS:
            break
        ids.append(id)
    return ids


def page_bytes(items: Sequence[Answer], next_cursor: str | None) -> bytes:
    """A page as JSON. To be called off the event loop."""
    return Page[Any](items=list(items), next_cursor=next_cursor).model_dump_json().encode()
