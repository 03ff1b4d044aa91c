"""Requests as data: options are the same whether they come in a JSON body or in the query string."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

from app.http.limits import COVERAGE_DEFAULT, LIMITS, NAME_CHARACTERS, SAMPLES_DEFAULT, SAMPLES_MIN, TOP_MAX

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"
SLUG = r"^[a-z0-9][a-z0-9-]{0,62}$"

Slug = Annotated[str, StringConstraints(pattern=SLUG)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS, pattern=PRINTABLE)]

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


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LearnerOption(Options):
    learner: Slug | None = Field(
        default=None, description="Slug of a learner; left out, the default learner of the input's kind."
    )


class CreateOptions(LearnerOption):
    name: Name | None = Field(default=None, description="A name for people; need not be unique.")


class PredictOptions(Options):
    coverage: float = Field(
        default=COVERAGE_DEFAULT,
        gt=0,
        lt=1,
        description="How often prediction sets shall hold the right class.",
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
        description="Report this many most probable classes only, in falling order.",
    )


class PredictOnceOptions(LearnerOption, PredictOptions): ...


class CreateTask(CreateOptions):
    """A support set to adapt a learner to."""

    support: SupportField = Field(description="Class label to its examples, or a list of labelled examples.")


class Predict(PredictOptions):
    """Queries to a task."""

    queries: QueriesField


class PredictOnce(PredictOnceOptions):
    """A support set and queries to it, answered once; nothing is stored."""

    support: SupportField = Field(description="Class label to its examples, or a list of labelled examples.")
    queries: QueriesField
