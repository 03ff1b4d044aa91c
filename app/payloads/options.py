"""Options and fields of requests to tasks and to streams: the same in a JSON body and in the query string."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from app.http.fields import Options, Slug
from app.http.limits import COVERAGE_DEFAULT, LIMITS, SAMPLES_DEFAULT, SAMPLES_MIN, TOP_MAX
from app.payloads.support import label_from_json
from hyperserve.types import TaskKind

VERSION_MAX = 2**31 - 1


def with_whole_numbers(value: object) -> object:
    """Return a label as text if it is one, otherwise the value, for pydantic to refuse."""
    label = label_from_json(value)
    return value if label is None else label


VersionNumber = Annotated[int, Field(ge=1, le=VERSION_MAX)]


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
            "description": "The right answer to each query of a regression task; adds `nll` to the predictions.",
        }
    ),
]


SUPPORT_DESCRIPTION = (
    "A map of class labels to examples, or a list of labelled examples; for a regression task, a list of "
    "examples with targets."
)


class LearnerOption(Options):
    learner: Slug | None = Field(
        default=None, description="Slug of a learner; by default the default learner for the kind of input."
    )


class TaskOptions(LearnerOption):
    kind: TaskKind = Field(
        default="classification",
        description="classification: examples have labels; regression: they have targets, which are vectors of "
        "numbers (JSON only).",
    )


class AnswerOptions(Options):
    coverage: float = Field(
        default=COVERAGE_DEFAULT,
        gt=0,
        lt=1,
        description="Probability with which prediction sets should contain the right class, and intervals the "
        "right number.",
    )
    samples: int = Field(
        default=SAMPLES_DEFAULT,
        ge=SAMPLES_MIN,
        le=LIMITS.samples,
        description="Weight samples drawn from a stochastic learner; ignored for a deterministic one.",
    )
    top: int | None = Field(
        default=None,
        ge=1,
        le=TOP_MAX,
        description="Report only this many of the most probable classes, most probable first; ignored for a "
        "regression task.",
    )


class VersionOption(Options):
    version: VersionNumber | None = Field(
        default=None, description="Number of a version; by default the current one."
    )
