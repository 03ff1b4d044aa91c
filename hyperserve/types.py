"""The wire, as data: what the server answers and the client returns. Times are milliseconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
TaskKind = Literal["classification", "regression"]
"""What an example is answered by: a label, or a target, which is a vector of numbers."""
Timing = dict[str, float]
"""Milliseconds spent in each of: decode, queue, embed, adapt, gate (of a stream), predict, total."""


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
    kind: TaskKind = "classification"
    version: int
    learner: str
    learner_digest: str
    classes: list[str] = Field(description="None of a regression task.")
    shots: dict[str, int] = Field(description="Examples of each class.")
    examples: int | None = Field(default=None, description="Of all classes, or of the regression task.")
    created_at: datetime
    timing: Timing | None = None
    warnings: list[Notice] = Field(default_factory=list)


class Version(Answer):
    """One immutable support set of a task."""

    number: int
    parent: int | None = Field(description="Number of the version that this one was made from.")
    origin: Literal["created", "support", "edited", "feedback", "renewed"] = Field(
        description="What made it; renewed: the learner was replaced."
    )
    current: bool = Field(description="Whether it answers when no version is named.")
    learner: str
    learner_digest: str
    kind: TaskKind = "classification"
    classes: list[str]
    shots: dict[str, int]
    examples: int | None = None
    created_at: datetime


class Example(Answer):
    """One input of a support set with its label, or with its target."""

    id: str
    label: str | None = Field(default=None, description="Null in a regression task.")
    target: list[float] | None = Field(default=None, description="Null but in a regression task.")
    kind: Literal["image", "vector", "text"]
    created_at: datetime


class Prediction(Answer):
    """The answer to one query. `label` is the most probable class whatever `unknown` says."""

    id: str | None = Field(default=None, description="Where the query was stored: what feedback names.")
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


class Estimate(Answer):
    """The answer to one query of a regression task: a Gaussian for each number of the target.

    The variance of the answer is `aleatoric`, and `epistemic` where there is one; both are in squared units of
    the target.
    """

    id: str | None = Field(default=None, description="Where the query was stored: what feedback names.")
    mean: list[float]
    aleatoric: list[float] = Field(description="Variance of the noise.")
    epistemic: list[float] | None = Field(
        description="Variance of the mean, which more support examples would remove; null for a deterministic "
        "learner."
    )
    interval: list[tuple[float, float]] = Field(
        description="Around each mean, what holds that number of the target with the asked coverage."
    )
    nll: float | None = Field(
        default=None, description="-log density of the target that was given, the whole vector, in nats."
    )


LABEL_FIRST: Any = Field(union_mode="left_to_right")
"""How a prediction is told from an estimate: it has a label."""


class Predictions(Answer):
    task: str | None
    kind: TaskKind = Field(default="classification", description="Which kind all of `predictions` are of.")
    version: int | None
    learner: str
    predictions: list[Annotated[Prediction | Estimate, LABEL_FIRST]] = Field(
        description="Estimates where `kind` is regression."
    )
    timing: Timing
    warnings: list[Notice] = Field(default_factory=list)


class SpanOut(Answer):
    min: int
    max: int | None


class Learner(Answer):
    """A meta-trained model that turns support sets into weights."""

    name: str
    digest: str | None = Field(description="Of what it answers; null until it is trained.")
    input: dict[str, Any] | None = Field(
        description='Kind and shape of the input, such as {"kind": "image", "size": 28}; null until trained.'
    )
    default: bool = Field(
        description="Whether it serves requests of its input kind, or regression tasks, that name no learner."
    )
    kind: TaskKind | None = Field(default=None, description="Of its tasks; null until it is trained.")
    method: str
    status: Literal["ready", "loading", "training", "failed"]
    traits: dict[str, Any]
    ways: SpanOut | None
    shots: SpanOut | None
    metrics: dict[str, Any]
    dataset: str | None = Field(default=None, description="What it is trained on, if it was trained here.")
    job: str | None = Field(default=None, description="The job that trains it.")
    error: dict[str, Any] | None = Field(default=None, description="`code` and `detail` of why it failed.")


class LearnerCard(Learner):
    """One learner with its model card (Markdown)."""

    card: str


class Method(Answer):
    """A way in which support sets become weights; learners are made by one."""

    name: str
    summary: str
    paper: str | None = Field(description="arXiv id; null where there is none.")
    kind: TaskKind = Field(description="Of its tasks.")
    representation: Literal[
        "initialisation", "optimiser", "embedding", "feed-forward", "black-box memory"
    ] = Field(description="What is meta-learned (the axes are those of 2004.05439).")
    optimiser: Literal["gradient", "evolution", "reinforcement"] = Field(
        description="How, unless a learner's traits say otherwise."
    )
    objective: Literal["few-shot", "many-shot", "single-task", "continual"] = Field(
        description="What it is meta-learned for."
    )
    optimisers: list[Literal["gradient", "evolution", "cma-es", "reinforce"]] = Field(
        description="What can train it as it is by default: a search needs parameters outside the encoder."
    )
    ways: SpanOut = Field(description="Classes of a task that it takes, by default; 0 of regression.")
    shots: SpanOut = Field(description="Examples of a class that it takes.")
    fixed_way: bool = Field(description="Whether a learner takes one number of classes.")
    flags: dict[str, bool] = Field(description='Such as {"stochastic": true, "incremental": false}.')
    hparams: dict[str, Any] = Field(description="JSON Schema of its hyperparameters, with defaults.")


class Dataset(Answer):
    """An uploaded labelled set to meta-train learners on."""

    id: str
    name: str | None
    format: Literal["zip", "npz", "csv"]
    kind: Literal["image", "vector"]
    shape: list[int] | None = Field(description="Of one input, where all have one.")
    classes: dict[str, int] = Field(description="Examples of each class.")
    examples: int
    bytes: int
    created_at: datetime


class Job(Answer):
    """Work that a worker does. Run at least once, published once."""

    id: str
    kind: str
    subject: str | None = Field(description="What it works on, such as learners/mine.")
    state: Literal["queued", "running", "succeeded", "failed", "cancelled", "dead"] = Field(
        description="dead: its worker was lost at every attempt."
    )
    attempt: int
    max_attempts: int
    cancel_requested: bool
    progress: dict[str, Any] | None = Field(description='Such as {"step": 300, "steps": 1000, "loss": 0.2}.')
    result: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="`code` and `detail` of a failure.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def finished(self) -> bool:
        return self.state not in ("queued", "running")


class Training(Answer):
    """A learner in the making and the job that makes it."""

    learner: Learner
    job: Job


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
    target_length: int = Field(description="Numbers of a target of a regression task.")
    text_characters: int
    image_bytes: int
    image_pixels: int
    dataset_bytes: int
    dataset_examples: int
    dataset_classes: int
    dataset_members: int
    dataset_unpacked_bytes: int
    training_steps: int
    stream_tasks: int
    held_out: int = Field(
        description="Examples of a stream task that are kept to tell how well it is answered."
    )


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
