"""The state of record. A tenant stands in every table; the raw inputs themselves are blobs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.db.types import UtcDateTime, now

REVISION = "0001"
"""Of `migrations`: where these tables stand."""

ID = String(40)
TENANT = String(64)
LABEL = String(200)
SLUG = String(63)
DIGEST = String(64)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class TaskRow(Base):
    """A task: a name for a sequence of versions, one of them current."""

    __tablename__ = "tasks"
    __table_args__ = (Index(None, "tenant", "id"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant: Mapped[str] = mapped_column(TENANT)
    name: Mapped[str | None] = mapped_column(LABEL)
    current: Mapped[int] = mapped_column(Integer)
    """Number of the version that answers when none is named."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class VersionRow(Base):
    """One immutable support set with the learner that it is adapted by. Answers depend on nothing else."""

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("task_id", "number"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant: Mapped[str] = mapped_column(TENANT)
    task_id: Mapped[str] = mapped_column(ID, ForeignKey("tasks.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    learner: Mapped[str] = mapped_column(SLUG)
    learner_digest: Mapped[str] = mapped_column(DIGEST)
    seed: Mapped[int] = mapped_column(BigInteger)
    classes: Mapped[list[str]] = mapped_column(JSON)
    shots: Mapped[list[int]] = mapped_column(JSON)
    """Examples of each class, in the order of `classes`."""
    shape: Mapped[list[int]] = mapped_column(JSON)
    """Of one decoded input: queries must have the same."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class ExampleRow(Base):
    """One labelled input. Versions of a task share their examples."""

    __tablename__ = "examples"
    __table_args__ = (Index(None, "tenant", "blob"), Index(None, "task_id"))

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant: Mapped[str] = mapped_column(TENANT)
    task_id: Mapped[str] = mapped_column(ID, ForeignKey("tasks.id", ondelete="CASCADE"))
    label: Mapped[str] = mapped_column(LABEL)
    kind: Mapped[str] = mapped_column(String(16))
    blob: Mapped[str] = mapped_column(DIGEST)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class VersionExampleRow(Base):
    """Which examples a version holds, in their order."""

    __tablename__ = "version_examples"
    __table_args__ = (Index(None, "example_id"),)

    version_id: Mapped[str] = mapped_column(
        ID, ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    example_id: Mapped[str] = mapped_column(ID, ForeignKey("examples.id", ondelete="CASCADE"))
    tenant: Mapped[str] = mapped_column(TENANT)
