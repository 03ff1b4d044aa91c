"""Requests and answers as data. Options are the same in a JSON body and in the query string."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from pydantic import BeforeValidator, Field, StrictBool, WithJsonSchema

from app.db.tables import TaskRow, VersionRow
from app.http.fields import Flag, Name, Options, PageOptions
from app.payloads.options import (
    SUPPORT_DESCRIPTION,
    AnswerOptions,
    QueriesField,
    SupportField,
    TargetsField,
    TaskOptions,
    VersionNumber,
    VersionOption,
    with_whole_numbers,
)
from hyperserve.types import Task, TaskKind, Version


class CreateOptions(TaskOptions):
    name: Name | None = Field(default=None, description="A name for people to read; need not be unique.")


class PredictOptions(VersionOption, AnswerOptions):
    store: Flag = Field(
        default=False,
        description="Store the queries for a while, so that clients can give feedback on the predictions.",
    )


class PredictOnceOptions(TaskOptions, AnswerOptions): ...


class PromoteOption(Options):
    promote: Flag = Field(default=True, description="Make the new version the current one.")


class ExamplesOptions(VersionOption, PageOptions): ...


class CreateTask(CreateOptions):
    """A support set to adapt a learner to."""

    support: SupportField = Field(description=SUPPORT_DESCRIPTION)


class Predict(PredictOptions):
    """Queries to a task."""

    store: StrictBool = PredictOptions.model_fields["store"].default
    queries: QueriesField
    targets: TargetsField = None


class PredictOnce(PredictOnceOptions):
    """A support set and queries, answered once; nothing is stored."""

    support: SupportField = Field(description=SUPPORT_DESCRIPTION)
    queries: QueriesField
    targets: TargetsField = None


TargetField = Annotated[Any, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Target"}]})]
LabelField = Annotated[
    str,
    BeforeValidator(with_whole_numbers),
    WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/LabelValue"}]}),
]


class AddSupport(PromoteOption):
    """Examples to add, of existing classes or of new ones."""

    promote: StrictBool = True
    support: Annotated[Any, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Addition"}]})] = Field(
        description=SUPPORT_DESCRIPTION
    )


class Relabel(Options):
    """Another label for an example."""

    label: LabelField


class Retarget(Options):
    """Another target for an example of a regression task."""

    target: TargetField


class Promote(Options):
    """The version to answer queries that name none."""

    version: VersionNumber


class Rename(Options):
    """Another name for a task; null removes it."""

    name: Name | None


class Feedback(Options):
    """The label that a prediction should have had: an existing class, or a new one."""

    label: LabelField


class TargetFeedback(Options):
    """The target that a prediction of a regression task should have had."""

    target: TargetField


Relabelling = Relabel | Retarget | Feedback | TargetFeedback


class _SupportSummary(TypedDict):
    kind: TaskKind
    classes: list[str]
    shots: dict[str, int]
    examples: int


def task_answer(task: TaskRow, version: VersionRow) -> Task:
    """Return a task as one of its versions describes it."""
    return Task(
        id=task.id,
        name=task.name,
        version=version.number,
        learner=version.learner,
        learner_digest=version.learner_digest[:16],
        created_at=task.created_at,
        **_support_summary(version),
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
        **_support_summary(version),
    )


def _support_summary(version: VersionRow) -> _SupportSummary:
    return {
        "kind": "classification" if version.target is None else "regression",
        "classes": version.classes,
        # The one number of a regression task, which has no classes, counts its examples.
        "shots": dict(zip(version.classes, version.shots, strict=version.target is None)),
        "examples": sum(version.shots),
    }
