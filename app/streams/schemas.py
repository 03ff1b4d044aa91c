"""Requests as data."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.http.fields import Options, Slug
from app.http.limits import LIMITS
from hyperserve.stream_types import Scenario

_NUMBER_MAX = 2**31 - 1
_INPUT = {
    "type": ["object", "null"],
    "description": "What a query is: an image of strokes of this size, a photo (three channels), or a vector.",
    "properties": {
        "kind": {"enum": ["image", "vector"]},
        "size": {"type": "integer", "minimum": 16, "maximum": 128, "description": "Side of a picture."},
        "channels": {"enum": [1, 3]},
        "crop": {"type": "boolean", "description": "Whether the box of the strokes is cut out."},
        "dim": {"type": "integer", "minimum": 1, "maximum": LIMITS.vector_length},
    },
    "required": ["kind"],
    "additionalProperties": False,
}
InputField = Annotated[dict[str, Any] | None, WithJsonSchema(_INPUT)]
HeldOut = Annotated[
    int | None,
    Field(
        ge=0,
        le=LIMITS.held_out,
        description="Examples that are kept and not learned from, to tell how well the stream task is answered; "
        "left out, a tenth of them, at most 500.",
    ),
]


class AlarmBounds(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    drift: float = Field(default=0.5, gt=0, le=1e6, description="Drift beyond which the alarm is raised.")
    fall: float = Field(
        default=0.05, ge=0, le=1, description="Fall of the accuracy on held-out examples, likewise."
    )


class CreateStream(BaseModel):
    """A stream, without any stream task yet."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Slug
    source: Slug | None = Field(
        default=None,
        alias="from",
        description="A stream that came with the server, to begin as a copy of; then only `alarm` may be given.",
    )
    scenario: Scenario = Field(
        default="cl3",
        description="cl1: queries name their stream task; cl2: all stream tasks have the same labels; cl3: labels "
        "are all different, and the stream task is inferred.",
    )
    method: str = Field(default="hypernetwork", max_length=63, description="hypernetwork or analytic.")
    hparams: dict[str, Any] = Field(default={}, max_length=64, description="Of the method.")
    input: InputField = None
    learner: Slug | None = Field(
        default=None,
        description="Learner whose frozen encoder makes the features, in place of `input`; left out, inputs are raw.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="The same seed and data make the same stream.")
    alarm: AlarmBounds = Field(default=AlarmBounds(), description="When a stream task's alarm is raised.")


class RegisterTask(BaseModel):
    """A labelled set to be registered."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Slug = Field(description="What queries name the stream task by.")
    dataset: str = Field(max_length=40, description="Id of a dataset.")
    classes: list[str] | None = Field(
        default=None,
        max_length=LIMITS.ways_max,
        description="Those of the dataset to take, in this order; left out, all.",
    )
    held_out: HeldOut = None


class RegisterOptions(Options):
    """Of an upload, whose body is the file."""

    name: Slug | None = Field(default=None, description="Of an upload: what queries name the stream task by.")
    held_out: HeldOut = None


class Rollback(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(ge=1, le=_NUMBER_MAX, description="Number of the version that shall answer.")
