"""Requests as data."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.http.fields import Options, Slug
from app.http.limits import LIMITS

_MOST_SHOTS = 1_000


class Range(BaseModel):
    """A closed range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: int
    max: int


class WayRange(Range):
    min: int = Field(default=5, ge=LIMITS.ways_min, le=LIMITS.ways_max)
    max: int = Field(default=20, ge=LIMITS.ways_min, le=LIMITS.ways_max)


class ShotRange(Range):
    min: int = Field(default=1, ge=1, le=_MOST_SHOTS)
    max: int = Field(default=5, ge=1, le=_MOST_SHOTS)


class TrainLearner(BaseModel):
    """A learner to be trained on a dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Slug = Field(description="What tasks name it by.")
    method: str = Field(default="hyperset", max_length=63, description="How support sets become weights.")
    encoder: str = Field(
        default="conv4",
        max_length=63,
        description="conv4 takes pictures of strokes, conv4-rgb pictures in colour, identity vectors.",
    )
    dataset: str = Field(max_length=40, description="Id of a dataset.")
    hparams: dict[str, Any] = Field(default={}, max_length=64, description="Of the method.")
    ways: WayRange | None = Field(
        default=None, description="Classes of a training task; left out, 5 to 20, or what the method takes."
    )
    shots: ShotRange = Field(default=ShotRange(), description="Examples of each class of a training task.")
    queries: int = Field(default=5, ge=1, le=100, description="Queries of each class of a training task.")
    steps: int = Field(default=2_000, ge=1, le=LIMITS.training_steps, description="Steps of training.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="The same seed and data train the same learner.")


class DeleteOptions(Options):
    force: bool = Field(
        default=False,
        description="Delete it although tasks use it; they then answer 503 until they are deleted.",
    )
