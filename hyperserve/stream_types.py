"""Response models of streams. A stream task is a labelled set that was registered into a stream, once."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from hyperserve.types import Answer, Job, Notice, Timing

Scenario = Literal["cl1", "cl2", "cl3"]


class Alarm(Answer):
    """Bounds beyond which a stream task's alarm is raised."""

    drift: float = Field(description="Largest permitted movement of its network, relative to its size.")
    fall: float = Field(description="Largest permitted fall of its accuracy on held-out examples.")


class Stream(Answer):
    """A network that learns one labelled set after another without forgetting."""

    name: str
    method: str
    scenario: Scenario
    hparams: dict[str, Any]
    input: dict[str, Any] = Field(description='Kind of query, such as {"kind": "image", "size": 28}.')
    encoder: str | None = Field(description="Learner whose frozen encoder computes the features.")
    encoder_digest: str | None
    shape: list[int] = Field(description="Shape of the features, or of the input if there is no encoder.")
    seed: int
    version: int | None = Field(description="The current version; null until a stream task is registered.")
    tasks: int = Field(description="Number of stream tasks in the current version.")
    alarm: Alarm | None = Field(description="Null for a bundled stream.")
    bundled: bool = Field(default=False, description="True if it came with the server and is read-only.")
    created_at: datetime | None


class StreamTask(Answer):
    """A labelled set in a stream. Accuracies are measured on held-out examples, with the stream task named."""

    name: str
    labels: list[str]
    state: Literal["registering", "ready", "failed", "forgetting", "forgotten", "rolled_back"] = Field(
        description="rolled_back: the current version does not contain it."
    )
    examples: int = Field(description="Number of examples it learns from.")
    held_out: int = Field(description="Number of examples held out to measure accuracy.")
    accuracy_registered: float | None = Field(description="Accuracy right after its registration.")
    accuracy_now: float | None
    inferred_now: float | None = Field(
        description="Share of held-out examples whose stream task is inferred correctly."
    )
    drift: float | None = Field(
        description="How far its network has moved since its registration, relative to its size."
    )
    alarm: bool = Field(description="True if its drift or loss of accuracy exceeds the bounds of the stream.")
    job: str | None = Field(description="Id of the newest job that works on it.")
    dataset: str | None = Field(
        description="Id of the dataset it was registered from; null once that is deleted."
    )
    error: dict[str, Any] | None = Field(default=None, description="`code` and `detail` of the failure.")
    created_at: datetime | None
    registered_at: datetime | None
    forgotten_at: datetime | None


class StreamVersion(Answer):
    """One immutable state of a stream."""

    number: int
    parent: int | None = Field(description="Number of the version that this one is based on.")
    origin: Literal["registered", "forgotten", "copied"] = Field(description="How it was created.")
    task: str | None = Field(description="The stream task that was registered or forgotten.")
    current: bool
    tasks: list[str] = Field(description="Its stream tasks, in the order of registration.")
    job: str | None
    created_at: datetime | None

    @property
    def version(self) -> int:
        """Return `number`, under the name that it has in `Stream` and `StreamPredictions`."""
        return self.number


class StreamWork(Answer):
    """A stream task and the job that registers or forgets it. Jobs of one stream run one after another."""

    task: StreamTask
    job: Job
    ahead: int = Field(description="Number of jobs of the stream that run before this one.")
    detail: str = Field(description="The same in words, such as: registered after 1 other job of the stream.")


class StreamPrediction(Answer):
    """The answer to one query. `label` is the most probable class whatever `unknown` says."""

    label: str
    confidence: float = Field(description="Probability of `label`.")
    probabilities: dict[str, float] = Field(
        description="Over the labels of the stream task; if none was named, of the two most probable ones (cl3). "
        "Sums to 1 unless cut by `top`."
    )
    task: str = Field(description="The named or inferred stream task.")
    task_probability: float | None = Field(
        description="Probability of that stream task among all of the version; null if it was named."
    )
    unknown: float | None = Field(
        description="Probability that no stream task fits, at even odds; null if a stream task was named or the "
        "stream cannot tell."
    )
    entropy: float = Field(description="Predictive entropy in nats.")
    epistemic: float | None = Field(description="Always null: the networks of a stream are deterministic.")
    prediction_set: list[str] = Field(
        description="The most probable classes that together reach the requested coverage."
    )


class StreamPredictions(Answer):
    """One prediction per query, in order."""

    stream: str
    version: int
    task: str | None = Field(description="The named stream task, if any.")
    predictions: list[StreamPrediction]
    timing: Timing = Field(description="Milliseconds per phase; `gate` is the inference of stream tasks.")
    warnings: list[Notice] = Field(default_factory=list)
