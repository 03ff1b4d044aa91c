"""From rows and predictive distributions to answers on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from app.db.tables import TaskRow, VersionRow
from hyperserve.types import Answer, Page, Task, TaskKind, Version

PAGE_LABELS = 5_000
"""Of a page together: thousands of labels each would make it tens of megabytes."""


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
