"""Streams in the state of record. What their versions have learned are blobs (`app.streams.files`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Boolean, Float, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import DIGEST, ID, SLUG, TENANT, Base
from app.db.types import UtcDateTime, now


class StreamRow(Base):
    """A stream: a name for a sequence of versions, one of them current."""

    __tablename__ = "streams"
    __table_args__ = (UniqueConstraint("tenant", "name"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant: Mapped[str] = mapped_column(TENANT)
    name: Mapped[str] = mapped_column(SLUG)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    """A `models.continual.config.StreamConfig`, with every default written out."""
    current: Mapped[int | None] = mapped_column(Integer)
    """Number of the version that answers; None where no stream task is registered."""
    latest: Mapped[int] = mapped_column(Integer, default=0)
    """The highest number that a version was given. None is given twice."""
    alarm_drift: Mapped[float] = mapped_column(Float)
    """Drift of a stream task beyond which its alarm is raised."""
    alarm_fall: Mapped[float] = mapped_column(Float)
    """Fall of its accuracy on held-out examples since its registration, likewise."""
    revision: Mapped[int] = mapped_column(Integer, default=1)
    """Counts every change of what is current or registered: its ETag."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class StreamTaskRow(Base):
    """A labelled set that is being registered into a stream, or was. Its examples are not kept, but for a few."""

    __tablename__ = "stream_tasks"
    __table_args__ = (
        Index(None, "stream_id", "name"),
        Index(None, "tenant", "held_out_blob"),
        Index(None, "dataset_id"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant: Mapped[str] = mapped_column(TENANT)
    stream_id: Mapped[str] = mapped_column(ID, ForeignKey("streams.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(SLUG)
    """One of a name is in a version at most; one that failed or was rolled back may have a successor."""
    labels: Mapped[list[str]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16), default="registering")
    """registering, ready or forgotten; with its job, see `app.streams.repository.StreamTaskState`."""
    examples: Mapped[int] = mapped_column(Integer)
    """That it was, or is to be, learned from."""
    held_out: Mapped[int] = mapped_column(Integer, default=0)
    """Examples that were kept, to tell how well it is answered."""
    held_out_blob: Mapped[str | None] = mapped_column(DIGEST)
    accuracy_registered: Mapped[float | None] = mapped_column(Float)
    """On them, with the stream task told, by the version that its registration made."""
    job_id: Mapped[str | None] = mapped_column(ID)
    """The newest job that works on it: registers it, or forgets it."""
    dataset_id: Mapped[str | None] = mapped_column(ID, ForeignKey("datasets.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    registered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    forgotten_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class StreamVersionRow(Base):
    """One immutable state of a stream."""

    __tablename__ = "stream_versions"
    __table_args__ = (UniqueConstraint("stream_id", "number"), Index(None, "tenant", "blob"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant: Mapped[str] = mapped_column(TENANT)
    stream_id: Mapped[str] = mapped_column(ID, ForeignKey("streams.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    parent: Mapped[int | None] = mapped_column(Integer)
    """Number of the version that it was made from."""
    blob: Mapped[str] = mapped_column(DIGEST)
    """What its stream tasks share."""
    origin: Mapped[str] = mapped_column(String(16))
    """What made it: registered, forgotten or copied."""
    subject: Mapped[str | None] = mapped_column(SLUG)
    """The stream task that was registered or forgotten."""
    job_id: Mapped[str | None] = mapped_column(ID)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class StreamPartRow(Base):
    """Which stream tasks a version holds, in the order of registration, what each owns in it, and how it does."""

    __tablename__ = "stream_parts"
    __table_args__ = (Index(None, "tenant", "blob"), Index(None, "task_id"))

    version_id: Mapped[str] = mapped_column(
        ID, ForeignKey("stream_versions.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    tenant: Mapped[str] = mapped_column(TENANT)
    task_id: Mapped[str] = mapped_column(ID, ForeignKey("stream_tasks.id", ondelete="CASCADE"))
    blob: Mapped[str] = mapped_column(DIGEST)
    accuracy: Mapped[float | None] = mapped_column(Float)
    """On its held-out examples, with the stream task told."""
    inferred: Mapped[float | None] = mapped_column(Float)
    """Share of them whose stream task is inferred rightly."""
    drift: Mapped[float | None] = mapped_column(Float)
    """How far its network has moved since its registration, relative to its size."""
    alarm: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether drift, or the fall of its accuracy, is beyond the stream's bounds."""
