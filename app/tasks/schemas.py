"""Requests as data: options are the same whether they come in a JSON body or in the query string."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool, WithJsonSchema

from app.http.fields import Name, Options, PageOptions, Slug
from app.http.limits import COVERAGE_DEFAULT, LIMITS, SAMPLES_DEFAULT, SAMPLES_MIN, TOP_MAX
from hyperserve.types import TaskKind

VERSION_MAX = 2**31 - 1


def _flag(value: object) -> object:
    """Of a query string: true or false, and no other word for it."""
    return {"true": True, "false": False}.get(value, "") if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_flag)]
Number = Annotated[int, Field(ge=1, le=VERSION_MAX)]
SupportField = Annotated[Any, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Support"}]})]
QueriesField = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Input"},
            "minItems": 1,
            "maxItems": LIMITS.queries,
        }
    ),
]


TargetsField = Annotated[
    Any,
    WithJsonSchema(
        {
            "type": ["array", "null"],
            "items": {"$ref": "#/components/schemas/Target"},
            "minItems": 1,
            "maxItems": LIMITS.queries,
            "description": "Of a regression task, the right answer to each query: makes `nll`.",
        }
    ),
]
_SUPPORT = (
    "Class label to its examples, or a list of labelled examples; of a regression task a list with targets."
)


class LearnerOption(Options):
    learner: Slug | None = Field(
        default=None, description="Slug of a learner; left out, the default learner of the input's kind."
    )


class TaskOptions(LearnerOption):
    kind: TaskKind = Field(
        default="classification",
        description="Whether examples have labels, or targets: vectors of numbers (regression, in JSON alone).",
    )


class CreateOptions(TaskOptions):
    name: Name | None = Field(default=None, description="A name for people; need not be unique.")


class AskOptions(Options):
    coverage: float = Field(
        default=COVERAGE_DEFAULT,
        gt=0,
        lt=1,
        description="How often prediction sets shall hold the right class, and intervals the right number.",
    )
    samples: int = Field(
        default=SAMPLES_DEFAULT,
        ge=SAMPLES_MIN,
        le=LIMITS.samples,
        description="Draws of a stochastic learner's weights; without effect on a deterministic one.",
    )
    top: int | None = Field(
        default=None,
        ge=1,
        le=TOP_MAX,
        description="Report this many most probable classes only, in falling order; "
        "without effect on a regression task.",
    )


class VersionOption(Options):
    version: Number | None = Field(default=None, description="A version's number; left out, the current one.")


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

    support: SupportField = Field(description=_SUPPORT)


class Predict(PredictOptions):
    """Queries to a task."""

    store: StrictBool = PredictOptions.model_fields["store"].default
    queries: QueriesField
    targets: TargetsField = None


class PredictOnce(PredictOnceOptions):
    """A support set and queries to it, answered once; nothing is stored."""

    support: SupportField = Field(description=_SUPPORT)
    queries: QueriesField
    targets: TargetsField = None


TargetField = Annotated[Any, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Target"}]})]
LabelField = Annotated[str, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Label"}]})]


class AddSupport(PromoteOption):
    """Examples to add, of classes that are there or of new ones."""

    promote: StrictBool = True
    support: Annotated[Any, WithJsonSchema({"allOf": [{"$ref": "#/components/schemas/Addition"}]})] = Field(
        description=_SUPPORT
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
