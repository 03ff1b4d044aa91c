"""The wire of streams, as data. A stream task is a labelled set that was registered into a stream, once."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from hyperserve.types import Answer, Job, Timing

Scenario = Literal["cl1", "cl2", "cl3"]


class Alarm(Answer):
    """When a stream task's alarm is raised."""

    drift: float = Field(description="Its network has moved by more than this, relative to its size.")
    fall: float = Field(description="Its accuracy on held-out examples has fallen by more than this.")


class Stream(Answer):
    """A network that labelled sets are registered into one after the other, without forgetting."""

    name: str
    method: str
    scenario: Scenario
    hparams: dict[str, Any]
    input: dict[str, Any] = Field(description='Of a query, such as {"kind": "image", "size": 28}.')
    encoder: str | None = Field(description="Learner whose frozen encoder makes the features.")
    encoder_digest: str | None
    shape: list[int] = Field(description="Of one feature; of the input where there is no encoder.")
    seed: int
    version: int | None = Field(description="The one that answers; null until a stream task is registered.")
    tasks: int = Field(description="Stream tasks of that version.")
    alarm: Alarm | None = Field(description="Null where it came with the server.")
    bundled: bool = Field(default=False, description="Whether it came with the server, and is not to change.")
    created_at: datetime | None


class StreamTask(Answer):
    """Accuracies are shares of its held-out examples, answered with the stream task told."""

    name: str
    labels: list[str]
    state: Literal["registering", "ready", "failed", "forgetting", "forgotten", "rolled_back"] = Field(
        description="rolled_back: the version that answers does not hold it."
    )
    examples: int = Field(description="That it is learned from.")
    held_out: int = Field(description="Examples that were kept, to tell how well it is answered.")
    accuracy_registered: float | None = Field(description="When it had just been registered.")
    accuracy_now: float | None
    inferred_now: float | None = Field(
        description="Share of held-out examples whose stream task is inferred rightly."
    )
    drift: float | None = Field(
        description="How far its network has moved since its registration, relative to its size."
    )
    alarm: bool = Field(
        description="Whether drift, or the fall of its accuracy, is beyond the stream's alarm."
    )
    job: str | None = Field(description="The newest job that works on it.")
    dataset: str | None = Field(description="That it was made from; null when that is deleted.")
    error: dict[str, Any] | None = Field(default=None, description="`code` and `detail` of why it failed.")
    created_at: datetime | None
    registered_at: datetime | None
    forgotten_at: datetime | None


class StreamVersion(Answer):
    """One immutable state of a stream."""

    number: int
    parent: int | None = Field(description="Number of the version that it was made from.")
    origin: Literal["registered", "forgotten", "copied"] = Field(description="What made it.")
    task: str | None = Field(description="The stream task that was registered or forgotten.")
    current: bool
    tasks: list[str] = Field(description="Stream tasks that it holds, in the order of registration.")
    job: str | None
    created_at: datetime | None


class StreamWork(Answer):
    """A stream task and the job that registers or forgets it. Jobs of one stream run one after the other."""

    task: StreamTask
    job: Job
    ahead: int = Field(description="Jobs of the stream that run before this one.")
    detail: str = Field(description="In words, such as: registered after 1 other job of the stream.")


class StreamPrediction(Answer):
    """The answer to one query. `label` is the most probable class whatever `unknown` says."""

    label: str
    confidence: float = Field(description="Probability of `label`.")
    probabilities: dict[str, float] = Field(
        description="Over the labels of the stream task; where none was named, of the two most probable ones (cl3). "
        "Sums to 1 unless cut by `top`."
    )
    task: str = Field(description="The stream task that was named, or the one that the query belongs to.")
    task_probability: float | None = Field(
        description="Of that stream task among all of the version; null where it was named."
    )
    unknown: float | None = Field(
        description="Probability that no stream task fits, at even odds; null where a stream task was named, or the "
        "stream cannot tell."
    )
    entropy: float = Field(description="Predictive entropy in nats.")
    epistemic: float | None = Field(description="Null: a stream's networks are deterministic.")
    prediction_set: list[str] = Field(
        description="The most probable classes that together have the asked coverage."
    )


class StreamPredictions(Answer):
    """One prediction per query, in order."""

    stream: str
    version: int
    task: str | None = Field(description="The stream task that was named.")
    predictions: list[StreamPrediction]
    timing: Timing = Field(description="Milliseconds, `gate` being those of task inference.")
