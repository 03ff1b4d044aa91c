"""Options and fields of requests to tasks and to streams: the same in a JSON body and in the query string."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from app.http.fields import Options, Slug
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


SUPPORT_DESCRIPTION = (
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
