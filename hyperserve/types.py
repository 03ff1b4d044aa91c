"""The wire, as data: what the server answers and the client returns. Times are milliseconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Timing = dict[str, float]
"""Milliseconds spent in each of: decode, queue, embed, adapt, predict, total."""


class Answer(BaseModel):
    """Base of every answer. Unknown fields are kept out of the way: a newer server may send more."""

    model_config = ConfigDict(extra="ignore")


class Notice(Answer):
    """Something allowed but worth knowing, such as a blank image in a support set."""

    code: str
    detail: str
    pointer: str | None = None


class Task(Answer):
    """A support set that became weights."""

    id: str
    name: str | None = None
    version: int
    learner: str
    learner_digest: str
    classes: list[str]
    shots: dict[str, int]
    created_at: datetime
    timing: Timing | None = None
    warnings: list[Notice] = Field(default_factory=list)


class Prediction(Answer):
    """The answer to one query. `label` is the most probable class whatever `unknown` says."""

    id: str | None = None
    label: str
    confidence: float = Field(description="Probability of `label`.")
    probabilities: dict[str, float] = Field(
        description="Sums to 1 over the task's classes unless cut by `top`."
    )
    unknown: float | None = Field(
        description="Probability that the query belongs to none of the classes; null where the learner has "
        "none."
    )
    entropy: float = Field(description="Predictive entropy in nats.")
    epistemic: float | None = Field(
        description="The part of `entropy` that more support examples would remove, in nats; null for a "
        "deterministic learner."
    )
    prediction_set: list[str] = Field(
        description="Classes that together hold the right one with the asked coverage, on average over tasks."
    )


class Predictions(Answer):
    task: str | None
    version: int | None
    learner: str
    predictions: list[Prediction]
    timing: Timing
    warnings: list[Notice] = Field(default_factory=list)


class SpanOut(Answer):
    min: int
    max: int | None


class Learner(Answer):
    """A meta-trained model that turns support sets into weights."""

    name: str
    digest: str
    input: dict[str, Any] = Field(
        description='Kind and shape of the input, such as {"kind": "image", "size": 28}.'
    )
    default: bool = Field(description="Whether it serves requests of its input kind that name no learner.")
    method: str
    status: Literal["ready", "loading", "failed"]
    traits: dict[str, Any]
    ways: SpanOut
    shots: SpanOut
    metrics: dict[str, Any]


class LearnerCard(Learner):
    """One learner with its model card (Markdown)."""

    card: str


class Limits(Answer):
    """What the server accepts at most."""

    json_bytes: int
    multipart_bytes: int
    multipart_parts: int
    ways_min: int
    ways_max: int
    support_examples: int
    queries: int
    samples: int
    label_characters: int
    vector_length: int
    text_characters: int
    image_bytes: int
    image_pixels: int


class Page(Answer, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = None


class ProblemItem(Answer):
    pointer: str | None = Field(default=None, description="JSON Pointer (RFC 6901) of the field at fault.")
    code: str
    detail: str
    limit: float | None = None


class Problem(Answer):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemItem] = Field(default_factory=list, max_length=20)


class Health(Answer):
    status: Literal["ok", "starting", "unavailable"]
    detail: str | None = None
