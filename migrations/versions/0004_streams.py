"""Streams, their stream tasks and versions; lanes of jobs.

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("lane", sa.String(40), nullable=True))
        jobs.create_index(op.f("ix_jobs_lane_state"), ["lane", "state"])
    _create_streams()
    _create_tasks()
    _create_versions()
    _create_parts()


def _id(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(40), nullable=nullable)


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String(64), nullable=False)


def _digest(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(64), nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=nullable)


def _share(name: str, *, nullable: bool = True) -> sa.Column[float]:
    return sa.Column(name, sa.Float(), nullable=nullable)


def _time(name: str = "created_at", *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _belongs(table: str, column: str, referred: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{referred}")
    return sa.ForeignKeyConstraint([column], [f"{referred}.id"], name=name, ondelete="CASCADE")


def _create_streams() -> None:
    op.create_table(
        "streams",
        _id("id"),
        _tenant(),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        _number("current", nullable=True),
        _number("latest"),
        _share("alarm_drift", nullable=False),
        _share("alarm_fall", nullable=False),
        _number("revision"),
        _time(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_streams_tenant_name")),
    )


def _create_tasks() -> None:
    op.create_table(
        "stream_tasks",
        _id("id"),
        _tenant(),
        _id("stream_id"),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        _number("examples"),
        _number("held_out"),
        _digest("held_out_blob", nullable=True),
        _share("accuracy_registered"),
        _id("job_id", nullable=True),
        _id("dataset_id", nullable=True),
        _time(),
        _time("registered_at", nullable=True),
        _time("forgotten_at", nullable=True),
        _belongs("stream_tasks", "stream_id", "streams"),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_stream_tasks_dataset_id_datasets")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stream_tasks")),
    )
    op.create_index(op.f("ix_stream_tasks_stream_id_name"), "stream_tasks", ["stream_id", "name"])
    op.create_index(op.f("ix_stream_tasks_tenant_held_out_blob"), "stream_tasks", ["tenant", "held_out_blob"])
    op.create_index(op.f("ix_stream_tasks_dataset_id"), "stream_tasks", ["dataset_id"])


def _create_versions() -> None:
    op.create_table(
        "stream_versions",
        _id("id"),
        _tenant(),
        _id("stream_id"),
        _number("number"),
        _number("parent", nullable=True),
        _digest("blob"),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(63), nullable=True),
        _id("job_id", nullable=True),
        _time(),
        _belongs("stream_versions", "stream_id", "streams"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stream_versions")),
        sa.UniqueConstraint("stream_id", "number", name=op.f("uq_stream_versions_stream_id_number")),
    )
    op.create_index(op.f("ix_stream_versions_tenant_blob"), "stream_versions", ["tenant", "blob"])


def _create_parts() -> None:
    op.create_table(
        "stream_parts",
        _id("version_id"),
        _number("position"),
        _tenant(),
        _id("task_id"),
        _digest("blob"),
        _share("accuracy"),
        _share("inferred"),
        _share("drift"),
        sa.Column("alarm", sa.Boolean(), nullable=False),
        _belongs("stream_parts", "version_id", "stream_versions"),
        _belongs("stream_parts", "task_id", "stream_tasks"),
        sa.PrimaryKeyConstraint("version_id", "position", name=op.f("pk_stream_parts")),
    )
    op.create_index(op.f("ix_stream_parts_tenant_blob"), "stream_parts", ["tenant", "blob"])
    op.create_index(op.f("ix_stream_parts_task_id"), "stream_parts", ["task_id"])


def downgrade() -> None:
    """Streams are dropped, with their jobs: nothing before knows how to run them."""
    for table in ("stream_parts", "stream_versions", "stream_tasks", "streams"):
        op.drop_table(table)
    op.execute("DELETE FROM jobs WHERE lane IS NOT NULL")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index(op.f("ix_jobs_lane_state"))
        jobs.drop_column("lane")
