"""Requests as data: options are the same whether they come in a JSON body or in the query string."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StrictBool, WithJsonSchema

from app.http.fields import Name, Options, PageOptions
from app.payloads.options import (
    SUPPORT_DESCRIPTION,
    AskOptions,
    Flag,
    Number,
    QueriesField,
    SupportField,
    TargetsField,
    TaskOptions,
    VersionOption,
)


class CreateOptions(TaskOptions):
    name: Name | None = Field(default=None, description="A name for people; need not be unique.")


class PredictOptions(VersionOption, AskOptions):
    store: Flag = Field(
        default=False, description="Keep the queries for a while, so that their predictions take feedback."
    )


class PredictOnceOptions(TaskOptions, AskOptions): ...


class PromoteOption(Options):
    promote: Flag = Field(default=True, description="Whether the new version becomes the current one.")


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
    """A support set and queries to it, answered once; nothing is stored."""

    support: SupportField = Field(description=SUPPORT_DESCRIPTION)
    queries: QueriesField
    targets: TargetsField = None


TargetField = Annotated[Any, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Target"}]})]
LabelField = Annotated[str, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Label"}]})]


class AddSupport(PromoteOption):
    """Examples to add, of classes that are there or of new ones."""

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
    """The version that is to answer when none is named."""

    version: Number


class Rename(Options):
    """Another name for a task, or none: null."""

    name: Name | None


class Feedback(Options):
    """The label that a prediction should have had: of a class that is there, or of a new one."""

    label: LabelField


class TargetFeedback(Options):
    """The target that a prediction of a regression task should have had."""

    target: TargetField


Wanted = Relabel | Retarget | Feedback | TargetFeedback
