"""Requests to streams as data."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from app.datasets.schemas import LabelColumn
from app.http.fields import Options, Slug
from app.http.limits import COVERAGE_DEFAULT, LIMITS, TOP_MAX
from app.payloads.options import QueriesField, VersionNumber, with_whole_numbers
from hyperserve.stream_types import Scenario

_NUMBER_MAX = 2**31 - 1
_INPUT = {
    "type": ["object", "null"],
    "description": "The kind of a query: an image of strokes of this size, a photo (three channels), or a vector.",
    "properties": {
        "kind": {"enum": ["image", "vector"]},
        "size": {
            "type": "integer",
            "minimum": 16,
            "maximum": 128,
            "description": "Side of an image in pixels.",
        },
        "channels": {"enum": [1, 3]},
        "crop": {"type": "boolean", "description": "Whether to cut out the bounding box of the strokes."},
        "dim": {"type": "integer", "minimum": 1, "maximum": LIMITS.vector_length},
    },
    "required": ["kind"],
    "additionalProperties": False,
}
_CLASS = {"allOf": [{"$ref": "#/components/schemas/LabelValue"}]}
InputField = Annotated[dict[str, Any] | None, WithJsonSchema(_INPUT)]
HeldOutField = Annotated[
    int | None,
    Field(
        ge=0,
        le=LIMITS.held_out,
        description="Examples to hold out of the registration, on which accuracy is measured; "
        "by default a tenth of them, at most 500.",
    ),
]


class AlarmBounds(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    drift: float = Field(default=0.5, gt=0, le=1e6, description="Drift beyond which the alarm is raised.")
    fall: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Fall of the accuracy on held-out examples beyond which the alarm is raised.",
    )


class CreateStream(BaseModel):
    """A new stream, which has no stream tasks yet."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Slug
    source: Slug | None = Field(
        default=None,
        alias="from",
        description="A bundled stream to copy; besides it only `alarm` may be given.",
    )
    scenario: Scenario = Field(
        default="cl3",
        description="cl1: queries name their stream task; cl2: all stream tasks have the same labels; cl3: all labels "
        "differ, and the stream task is inferred.",
    )
    method: str = Field(default="hypernetwork", max_length=63, description="hypernetwork or analytic.")
    hparams: dict[str, Any] = Field(default={}, max_length=64, description="Hyperparameters of the method.")
    input: InputField = None
    learner: Slug | None = Field(
        default=None,
        description="Learner whose frozen encoder computes the features, instead of `input`; "
        "by default the stream works on raw inputs.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="The same seed and the same data make the same stream."
    )
    alarm: AlarmBounds = Field(default=AlarmBounds(), description="When to raise the alarm of a stream task.")


class RegisterTask(BaseModel):
    """A labelled set to register."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Slug = Field(description="Name of the stream task, for queries.")
    dataset: str = Field(max_length=40, description="Id of a dataset.")
    classes: list[Annotated[str, BeforeValidator(with_whole_numbers), WithJsonSchema(_CLASS)]] | None = Field(
        default=None,
        max_length=LIMITS.ways_max,
        description="Classes of the dataset to register, in this order; by default all.",
    )
    held_out: HeldOutField = None


class RegisterOptions(Options):
    """Options of a registration whose body is the file."""

    name: Slug | None = Field(
        default=None, description="Name of the stream task, if the body is a file rather than JSON."
    )
    held_out: HeldOutField = None
    label: LabelColumn = None


class Rollback(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1, le=_NUMBER_MAX, description="Number of the version to make current.")


class StreamPredictOptions(Options):
    task: Slug | None = Field(
        default=None, description="Name of a stream task; by default it is inferred for each query."
    )
    version: VersionNumber | None = Field(
        default=None, description="Number of a version; by default the current one."
    )
    coverage: float = Field(
        default=COVERAGE_DEFAULT,
        gt=0,
        lt=1,
        description="Probability that the classes of a prediction set must reach together.",
    )
    top: int | None = Field(
        default=None,
        ge=1,
        le=TOP_MAX,
        description="Report only this many classes, the most probable first.",
    )


class StreamPredict(StreamPredictOptions):
    """Queries to a stream."""

    queries: QueriesField
