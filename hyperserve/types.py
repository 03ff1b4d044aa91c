"""Response models of the API, shared by server and client. Times are in milliseconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
TaskKind = Literal["classification", "regression"]
"""Kind of a task: examples have labels, or targets, which are vectors of numbers."""
Timing = dict[str, float]
"""Milliseconds spent per phase: decode, queue, embed, adapt, gate (streams only), predict, total."""


class Answer(BaseModel):
    """Base of every response. Unknown fields are ignored, as a newer server may send more."""

    model_config = ConfigDict(extra="ignore")


class Notice(Answer):
    """A warning about something accepted, such as a blank image in a support set."""

    code: str
    detail: str
    pointer: str | None = None


class Task(Answer):
    """A stored support set with its weights."""

    id: str
    name: str | None = None
    kind: TaskKind = "classification"
    version: int
    learner: str
    learner_digest: str
    classes: list[str] = Field(description="Empty for a regression task.")
    shots: dict[str, int] = Field(description="Number of examples per class.")
    examples: int | None = Field(default=None, description="Number of examples in all.")
    created_at: datetime
    fit: float | None = Field(
        default=None,
        description="How well the support set fits what the learner's encoder was trained on, from 0, foreign, to 1: "
        "in answers that make a version; null in others, or if the learner does not compute it.",
    )
    timing: Timing | None = None
    warnings: list[Notice] = Field(default_factory=list)


class Version(Answer):
    """One immutable support set of a task."""

    number: int
    parent: int | None = Field(description="Number of the version that this one is based on.")
    origin: Literal["created", "support", "edited", "feedback", "renewed"] = Field(
        description="How it was created; renewed: the learner was replaced."
    )
    current: bool = Field(description="True for the version that answers if none is named.")
    learner: str
    learner_digest: str
    kind: TaskKind = "classification"
    classes: list[str]
    shots: dict[str, int]
    examples: int | None = None
    created_at: datetime

    @property
    def version(self) -> int:
        """Return `number`, under the name that it has in `Task` and `Predictions`."""
        return self.number


class Example(Answer):
    """One input of a support set with its label or target."""

    id: str
    label: str | None = Field(default=None, description="Null in a regression task.")
    target: list[float] | None = Field(default=None, description="Null unless in a regression task.")
    kind: Literal["image", "vector", "text"]
    created_at: datetime


class Prediction(Answer):
    """The answer to one query. `label` is the most probable class whatever `unknown` says."""

    id: str | None = Field(default=None, description="Id for feedback, if the query was stored.")
    label: str
    confidence: float = Field(description="Probability of `label`.")
    probabilities: dict[str, float] = Field(
        description="Sums to 1 over the task's classes unless cut by `top`."
    )
    unknown: float | None = Field(
        description="Probability that the query belongs to none of the classes; null if the learner does not "
        "compute it."
    )
    entropy: float = Field(description="Predictive entropy in nats.")
    epistemic: float | None = Field(
        description="The part of `entropy` that more support examples would remove, in nats; null for a "
        "deterministic learner."
    )
    prediction_set: list[str] = Field(
        description="The most probable classes that together hold at least the requested coverage by their "
        "probabilities; more where calibration tasks needed more."
    )


class Estimate(Answer):
    """The answer to one query of a regression task: a Gaussian per number of the target.

    Its variance is `aleatoric` plus `epistemic`, if any; both are in squared units of the target.
    """

    id: str | None = Field(default=None, description="Id for feedback, if the query was stored.")
    mean: list[float]
    aleatoric: list[float] = Field(description="Variance of the noise.")
    epistemic: list[float] | None = Field(
        description="Variance of the mean, which more support examples would remove; null for a deterministic "
        "learner."
    )
    interval: list[tuple[float, float]] = Field(
        description="Interval around each mean that contains this number of the target with the requested coverage."
    )
    nll: float | None = Field(
        default=None, description="-log density of the given target, as a whole vector, in nats."
    )


LABEL_FIRST: Any = Field(union_mode="left_to_right")
"""Distinguishes a prediction from an estimate by its label."""


class Predictions(Answer):
    """One prediction per query, in order."""

    task: str | None
    kind: TaskKind = Field(default="classification", description="Kind of all `predictions`.")
    version: int | None
    learner: str
    predictions: list[Annotated[Prediction | Estimate, LABEL_FIRST]] = Field(
        description="Estimates if `kind` is regression."
    )
    fit: float | None = Field(
        default=None,
        description="How well the support set fits what the learner's encoder was trained on, from 0, foreign, to 1; "
        "null if the learner does not compute it.",
    )
    timing: Timing
    warnings: list[Notice] = Field(default_factory=list)


class SpanOut(Answer):
    """A range of ways or shots; `max` null means no upper bound."""

    min: int
    max: int | None


class Learner(Answer):
    """A meta-trained model that turns support sets into weights."""

    name: str
    digest: str | None = Field(
        description="Digest of everything that determines its answers; null until trained."
    )
    input: dict[str, Any] | None = Field(
        description='Kind and shape of the input, such as {"kind": "image", "size": 28}; null until trained.'
    )
    default: bool = Field(description="True if it serves requests of its kind that name no learner.")
    kind: TaskKind | None = Field(default=None, description="Kind of its tasks; null until it is trained.")
    method: str
    status: Literal["ready", "loading", "training", "failed"]
    traits: dict[str, Any]
    ways: SpanOut | None
    shots: SpanOut | None
    metrics: dict[str, Any]
    dataset: str | None = Field(
        default=None, description="Id of the dataset it is trained on, if trained on this server."
    )
    job: str | None = Field(default=None, description="Id of the job that trains it.")
    error: dict[str, Any] | None = Field(default=None, description="`code` and `detail` of the failure.")


class LearnerCard(Learner):
    """One learner with its model card (Markdown)."""

    card: str


class Method(Answer):
    """A way to turn support sets into weights, by which learners are trained."""

    name: str
    summary: str
    paper: str | None = Field(description="arXiv id, or null.")
    kind: TaskKind = Field(description="Kind of its tasks.")
    representation: Literal[
        "initialisation", "optimiser", "embedding", "feed-forward", "black-box memory"
    ] = Field(description="What is meta-learned, in the terms of 2004.05439.")
    optimiser: Literal["gradient", "evolution", "reinforcement"] = Field(
        description="How it is meta-learned, unless a learner's traits say otherwise."
    )
    objective: Literal["few-shot", "many-shot", "single-task", "continual"] = Field(
        description="For what it is meta-learned."
    )
    optimisers: list[Literal["gradient", "evolution", "cma-es", "reinforce"]] = Field(
        description="Optimisers that can train it with default settings; a search needs parameters outside the encoder."
    )
    ways: SpanOut = Field(description="Supported numbers of classes by default; 0 for regression.")
    shots: SpanOut = Field(description="Supported numbers of examples per class.")
    fixed_way: bool = Field(description="True if a learner supports a single number of classes.")
    flags: dict[str, bool] = Field(
        description='Properties such as {"stochastic": true, "incremental": false}.'
    )
    hparams: dict[str, Any] = Field(description="JSON Schema of its hyperparameters, with defaults.")


class DatasetWarning(Answer):
    """Something of a file that is worth knowing although the file was accepted, such as members left out."""

    code: str
    detail: str
    count: int = Field(description="Number of members or lines concerned.")
    examples: list[str] = Field(default_factory=list, description="The first few of them.")


class ReadingRow(Answer):
    """One row of a CSV as it was read."""

    label: str
    values: list[float] = Field(description="The first 20 numbers.")


class DatasetReading(Answer):
    """Columns of a CSV, or arrays of an npz, by the use that was made of them."""

    label: str = Field(description="Column, or array, of the labels.")
    inputs: list[str] = Field(description="The first 100 columns, or the array, of the inputs.")
    left_out: list[str] = Field(description="Columns, or arrays, that are not used; the first 100.")
    rows: list[ReadingRow] = Field(description="The first three rows of a CSV.")


class Dataset(Answer):
    """An uploaded labelled set to meta-train learners on."""

    id: str
    name: str | None
    format: Literal["zip", "npz", "csv"]
    kind: Literal["image", "vector"]
    shape: list[int] | None = Field(description="Shape of an input, if all inputs share one.")
    classes: dict[str, int] = Field(description="Number of examples per class.")
    examples: int
    bytes: int
    reading: DatasetReading | None = Field(
        default=None, description="Use of the columns of a CSV or the arrays of an npz; null for a zip."
    )
    warnings: list[DatasetWarning] = Field(default_factory=list)
    created_at: datetime


class Job(Answer):
    """Background work for a worker. Run at least once, published once."""

    id: str
    kind: str
    subject: str | None = Field(description="The resource it works on, such as learners/mine.")
    state: Literal["queued", "running", "succeeded", "failed", "cancelled", "dead"] = Field(
        description="dead: its worker was lost at every attempt."
    )
    attempt: int
    max_attempts: int
    cancel_requested: bool
    progress: dict[str, Any] | None = Field(
        description='Progress such as {"step": 300, "steps": 1000, "loss": 0.2}.'
    )
    result: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="`code` and `detail` of a failure.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def finished(self) -> bool:
        """Return True unless the job is queued or running."""
        return self.state not in ("queued", "running")


class Training(Answer):
    """A learner in training and the job that trains it."""

    learner: Learner
    job: Job


class Limits(Answer):
    """Upper limits of what the server accepts."""

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
    target_length: int = Field(description="Length of a target in a regression task.")
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
    held_out: int = Field(description="Examples of a stream task held out to measure its accuracy.")


class Page(Answer, Generic[Item]):
    """One page of a list; `next_cursor` is null on the last page."""

    items: list[Item]
    next_cursor: str | None = None


class ProblemItem(Answer):
    """One fault of a refused request."""

    pointer: str | None = Field(default=None, description="JSON Pointer (RFC 6901) of the field at fault.")
    code: str
    detail: str
    limit: float | None = None


class Problem(Answer):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemItem] = Field(default_factory=list, max_length=20)


class Health(Answer):
    """State of the server for health checks."""

    status: Literal["ok", "starting", "unavailable"]
    detail: str | None = None
