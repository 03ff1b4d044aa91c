"""The state of record. Every row belongs to a tenant (`app.db.base.Base`); the raw inputs themselves are blobs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import DIGEST, ID, LABEL, SLUG, VALUES, Base, UtcDateTime, now


class StreamRow(Base):
    """A stream: a name for a sequence of versions, one of them current."""

    __tablename__ = "streams"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(SLUG)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    """A `models.continual.stream_config.StreamConfig`, with every default written out."""
    current: Mapped[int | None] = mapped_column(Integer)
    """Number of the version that answers; None if no stream task is registered."""
    latest: Mapped[int] = mapped_column(Integer, default=0)
    """The highest number given to a version. No number is given twice."""
    alarm_drift: Mapped[float] = mapped_column(Float)
    """Drift of a stream task beyond which its alarm is raised."""
    alarm_fall: Mapped[float] = mapped_column(Float)
    """Fall of its accuracy on held-out examples since its registration beyond which its alarm is raised."""
    revision: Mapped[int] = mapped_column(Integer, default=1)
    """Counts every change of what is current or registered: its ETag."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class StreamTaskRow(Base):
    """A labelled set that is being registered into a stream, or was. Only a few of its examples are stored."""

    __tablename__ = "stream_tasks"
    __table_args__ = (
        Index(None, "stream_id", "name"),
        Index(None, "tenant", "held_out_blob"),
        Index(None, "dataset_id"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    stream_id: Mapped[str] = mapped_column(ID, ForeignKey("streams.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(SLUG)
    """Unique within a version; a failed or rolled-back stream task may have a successor of the same name."""
    labels: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16), default="registering")
    """registering, ready or forgotten; with its job, see `app.streams.repository.StreamTaskState`."""
    examples: Mapped[int] = mapped_column(Integer)
    """Number of examples that it learns or has learned from."""
    held_out: Mapped[int] = mapped_column(Integer, default=0)
    """Number of examples set aside to measure its accuracy."""
    held_out_blob: Mapped[str | None] = mapped_column(DIGEST)
    accuracy_registered: Mapped[float | None] = mapped_column(Float)
    """Accuracy on them, given the stream task, of the version that its registration created."""
    job_id: Mapped[str | None] = mapped_column(ID)
    """The newest job that registers or forgets it."""
    dataset_id: Mapped[str | None] = mapped_column(ID, ForeignKey("datasets.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    registered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    forgotten_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class StreamVersionRow(Base):
    """One immutable state of a stream."""

    __tablename__ = "stream_versions"
    __table_args__ = (UniqueConstraint("stream_id", "number"), Index(None, "tenant", "blob"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    stream_id: Mapped[str] = mapped_column(ID, ForeignKey("streams.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    parent: Mapped[int | None] = mapped_column(Integer)
    """Number of the version that this one was made from."""
    blob: Mapped[str] = mapped_column(DIGEST)
    """Digest of the parts that its stream tasks share."""
    origin: Mapped[str] = mapped_column(String(16))
    """The operation that made it: registered, forgotten or copied."""
    subject: Mapped[str | None] = mapped_column(SLUG)
    """The stream task that was registered or forgotten."""
    job_id: Mapped[str | None] = mapped_column(ID)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class StreamPartRow(Base):
    """The stream tasks of a version in the order of registration, with what each owns in it and its figures."""

    __tablename__ = "stream_parts"
    __table_args__ = (Index(None, "tenant", "blob"), Index(None, "task_id"))

    version_id: Mapped[str] = mapped_column(
        ID, ForeignKey("stream_versions.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    task_id: Mapped[str] = mapped_column(ID, ForeignKey("stream_tasks.id", ondelete="CASCADE"))
    blob: Mapped[str] = mapped_column(DIGEST)
    accuracy: Mapped[float | None] = mapped_column(Float)
    """Accuracy on its held-out examples, given the stream task."""
    inferred: Mapped[float | None] = mapped_column(Float)
    """Share of them whose stream task is inferred correctly."""
    drift: Mapped[float | None] = mapped_column(Float)
    """Distance of its network from that at its registration, relative to its size."""
    alarm: Mapped[bool] = mapped_column(Boolean, default=False)
    """True if drift, or the fall of its accuracy, is beyond the stream's bounds."""


REVISION = "0005"
"""The revision of `migrations` that makes these tables."""


class TaskRow(Base):
    """A task: a name for a sequence of versions, one of them current."""

    __tablename__ = "tasks"
    __table_args__ = (Index(None, "tenant", "id"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str | None] = mapped_column(LABEL)
    current: Mapped[int] = mapped_column(Integer)
    """Number of the version that answers if none is named."""
    revision: Mapped[int] = mapped_column(Integer, default=1)
    """Counts every change of the task or of what is current: its ETag."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class VersionRow(Base):
    """One immutable support set with the learner that adapts to it. Answers depend on nothing else."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("task_id", "number"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    task_id: Mapped[str] = mapped_column(ID, ForeignKey("tasks.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    learner: Mapped[str] = mapped_column(SLUG)
    learner_digest: Mapped[str] = mapped_column(DIGEST)
    seed: Mapped[int] = mapped_column(BigInteger)
    classes: Mapped[list[str]] = mapped_column(JSON)
    shots: Mapped[list[int]] = mapped_column(JSON)
    """Examples of each class, in the order of `classes`; for a task of values their number alone."""
    shape: Mapped[list[int]] = mapped_column(JSON)
    """Shape of one decoded input: queries must have the same."""
    target: Mapped[int | None] = mapped_column(Integer)
    """Length of a target vector; None if examples have labels."""
    parent: Mapped[int | None] = mapped_column(Integer)
    """Number of the version that this one was made from; None for the first."""
    origin: Mapped[str] = mapped_column(String(16), default="created")
    """The operation that made it: created, support, edited, feedback or renewed."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class ExampleRow(Base):
    """One input with its label or its target. Versions of a task share their examples."""

    __tablename__ = "examples"
    __table_args__ = (Index(None, "tenant", "blob"), Index(None, "task_id"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    task_id: Mapped[str] = mapped_column(ID, ForeignKey("tasks.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(LABEL)
    """Empty if it has a target."""
    target: Mapped[list[float] | None] = mapped_column(VALUES)
    kind: Mapped[str] = mapped_column(String(16))
    blob: Mapped[str] = mapped_column(DIGEST)
    prediction: Mapped[str | None] = mapped_column(ID)
    """Id of the prediction whose query it is, if feedback made it; kept if its label changes."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class VersionExampleRow(Base):
    """The examples of a version, in their order."""

    __tablename__ = "version_examples"
    __table_args__ = (Index(None, "example_id"),)

    version_id: Mapped[str] = mapped_column(
        ID, ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    example_id: Mapped[str] = mapped_column(ID, ForeignKey("examples.id", ondelete="CASCADE"))


class PredictionRow(Base):
    """A stored query with its answer (`store=true`), so that feedback can name it. It expires."""

    __tablename__ = "predictions"
    __table_args__ = (Index(None, "tenant", "blob"), Index(None, "task_id"), Index(None, "expires_at"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    task_id: Mapped[str] = mapped_column(ID, ForeignKey("tasks.id", ondelete="CASCADE"))
    version: Mapped[int] = mapped_column(Integer)
    """Number of the version that answered."""
    label: Mapped[str] = mapped_column(LABEL)
    """Empty if the answer is a value."""
    target: Mapped[list[float] | None] = mapped_column(VALUES)
    """The mean that was answered."""
    kind: Mapped[str] = mapped_column(String(16))
    blob: Mapped[str] = mapped_column(DIGEST)
    feedback: Mapped[str | None] = mapped_column(LABEL)
    """The correct label according to the client."""
    feedback_target: Mapped[list[float] | None] = mapped_column(VALUES)
    """The correct target according to the client."""
    feedback_version: Mapped[int | None] = mapped_column(Integer)
    """Number of the version that the feedback made."""
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class DatasetRow(Base):
    """An uploaded labelled set to meta-train on. The file as it was uploaded is a blob."""

    __tablename__ = "datasets"
    __table_args__ = (Index(None, "tenant", "id"), Index(None, "tenant", "blob"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str | None] = mapped_column(LABEL)
    format: Mapped[str] = mapped_column(String(16))
    """Format of the file: zip, npz or csv."""
    kind: Mapped[str] = mapped_column(String(16))
    """Kind of an input: image or vector."""
    shape: Mapped[list[int] | None] = mapped_column(JSON)
    """Shape of one input if all have the same: [d] for vectors, [height, width] for arrays of pictures."""
    classes: Mapped[dict[str, int]] = mapped_column(JSON)
    """Number of examples of each class."""
    options: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """A `models.data.errors.ReadOptions` without its defaults: how the file is read, now and by jobs."""
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What the inspection of the file reported: `warnings`, and more fields of the answer."""
    bytes: Mapped[int] = mapped_column(BigInteger)
    blob: Mapped[str] = mapped_column(DIGEST)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class LearnerRow(Base):
    """A learner that was trained here, or is being trained. Those in the zoo have no row."""

    __tablename__ = "learners"
    __table_args__ = (UniqueConstraint("tenant", "name"), Index(None, "dataset_id"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(SLUG)
    method: Mapped[str] = mapped_column(String(63))
    status: Mapped[str] = mapped_column(String(16))
    """training, ready or failed."""
    digest: Mapped[str | None] = mapped_column(DIGEST)
    """Digest of the artifact in the blob store; set when it is ready."""
    dataset_id: Mapped[str | None] = mapped_column(ID, ForeignKey("datasets.id"))
    job_id: Mapped[str | None] = mapped_column(ID)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "dead"]


class JobRow(Base):
    """Work for a worker. Only the holder of the lease publishes: see `app.jobs.repository`."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "tenant", "id"),
        Index(None, "state", "priority", "run_at"),
        Index(None, "lane", "state"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    subject: Mapped[str | None] = mapped_column(String(128))
    """The resource that the job works on, such as learners/<name>."""
    lane: Mapped[str | None] = mapped_column(ID)
    """Jobs of one lane run one at a time and in order: the id of what they change."""
    state: Mapped[str] = mapped_column(String(16), default="queued")
    """queued, running, succeeded, failed, cancelled or dead."""
    priority: Mapped[int] = mapped_column(Integer, default=0)
    """Higher values run first."""
    run_at: Mapped[int] = mapped_column(BigInteger)
    """Earliest start; milliseconds of the database's clock, as `lease_until`."""
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    max_attempts: Mapped[int] = mapped_column(Integer, default=3)
    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_token: Mapped[int] = mapped_column(BigInteger, default=0)
    """Fencing token: grows with every claim."""
    lease_until: Mapped[int | None] = mapped_column(BigInteger)
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    sequence: Mapped[int] = mapped_column(Integer, default=1)
    """Counts every change that clients can see: the id of its event."""
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class IdempotencyRow(Base):
    """A request that came with an Idempotency-Key; its response is stored with the request's effect."""

    __tablename__ = "idempotency"
    __table_args__ = (UniqueConstraint("tenant", "key"), Index(None, "subject"), Index(None, "expires_at"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    key: Mapped[str] = mapped_column(String(255))
    route: Mapped[str] = mapped_column(String(255))
    """Method and path."""
    body: Mapped[str] = mapped_column(DIGEST)
    """Digest of the query string and the body."""
    token: Mapped[str] = mapped_column(ID)
    """Holder of the lease: the request whose turn it is."""
    lease_until: Mapped[int] = mapped_column(BigInteger)
    """Milliseconds of the database's clock; after it, without a response, the key is free again."""
    subject: Mapped[str | None] = mapped_column(ID)
    """Id of the task or dataset that the response shows: when it is deleted, the response is."""
    status: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[dict[str, str] | None] = mapped_column(JSON)
    response: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    """Milliseconds of the database's clock."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class ChangeRow(Base):
    """A change for other processes; each reads new ones about once a second (`app.db.invalidation_log`)."""

    __tablename__ = "changes"
    __table_args__ = (Index(None, "at"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    """Milliseconds of the database's clock."""
    kind: Mapped[str] = mapped_column(String(16))
    """task, purge, learner, stream or job."""
    subject: Mapped[str] = mapped_column(String(128))
    detail: Mapped[list[str]] = mapped_column(JSON)
    """For a purge, the ids of the versions that are gone."""
