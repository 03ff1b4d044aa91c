"""Versions that know where they came from; kept predictions, datasets, learners, jobs, idempotency, changes.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _id(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(40), nullable=False)


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant", sa.String(64), nullable=False)


def _time(name: str = "created_at", *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    with op.batch_alter_table("tasks") as tasks:
        tasks.add_column(sa.Column("revision", sa.Integer(), nullable=False, server_default="1"))
    with op.batch_alter_table("versions") as versions:
        versions.add_column(sa.Column("parent", sa.Integer(), nullable=True))
        versions.add_column(sa.Column("origin", sa.String(16), nullable=False, server_default="created"))
    op.execute("UPDATE versions SET parent = number - 1, origin = 'renewed' WHERE number > 1")
    with op.batch_alter_table("examples") as examples:
        examples.add_column(sa.Column("prediction", sa.String(40), nullable=True))
    _create_predictions()
    _create_datasets()
    _create_learners()
    _create_jobs()
    _create_idempotency()
    _create_changes()


def _create_predictions() -> None:
    op.create_table(
        "predictions",
        _id("id"),
        _tenant(),
        _id("task_id"),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("blob", sa.String(64), nullable=False),
        sa.Column("feedback", sa.String(200), nullable=True),
        sa.Column("feedback_version", sa.Integer(), nullable=True),
        _time("expires_at"),
        _time(),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_predictions_task_id_tasks"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictions")),
    )
    op.create_index(op.f("ix_predictions_tenant_blob"), "predictions", ["tenant", "blob"])
    op.create_index(op.f("ix_predictions_task_id"), "predictions", ["task_id"])
    op.create_index(op.f("ix_predictions_expires_at"), "predictions", ["expires_at"])


def _create_datasets() -> None:
    op.create_table(
        "datasets",
        _id("id"),
        _tenant(),
        sa.Column("name", sa.String(200), nullable=True),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("shape", sa.JSON(), nullable=True),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("blob", sa.String(64), nullable=False),
        _time(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(op.f("ix_datasets_tenant_id"), "datasets", ["tenant", "id"])
    op.create_index(op.f("ix_datasets_tenant_blob"), "datasets", ["tenant", "blob"])


def _create_learners() -> None:
    op.create_table(
        "learners",
        _id("id"),
        _tenant(),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("method", sa.String(63), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=True),
        sa.Column("dataset_id", sa.String(40), nullable=True),
        sa.Column("job_id", sa.String(40), nullable=True),
        _time(),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_learners_dataset_id_datasets")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_learners")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_learners_tenant_name")),
    )
    op.create_index(op.f("ix_learners_dataset_id"), "learners", ["dataset_id"])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        _id("id"),
        _tenant(),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("subject", sa.String(128), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("run_at", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(128), nullable=True),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        _time(),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_tenant_id"), "jobs", ["tenant", "id"])
    op.create_index(op.f("ix_jobs_state_priority_run_at"), "jobs", ["state", "priority", "run_at"])


def _create_idempotency() -> None:
    op.create_table(
        "idempotency",
        _id("id"),
        _tenant(),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("route", sa.String(255), nullable=False),
        sa.Column("body", sa.String(64), nullable=False),
        _id("token"),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(40), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("response", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        _time(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency")),
        sa.UniqueConstraint("tenant", "key", name=op.f("uq_idempotency_tenant_key")),
    )
    op.create_index(op.f("ix_idempotency_subject"), "idempotency", ["subject"])
    op.create_index(op.f("ix_idempotency_expires_at"), "idempotency", ["expires_at"])


def _create_changes() -> None:
    op.create_table(
        "changes",
        _id("id"),
        _tenant(),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
    )
    op.create_index(op.f("ix_changes_at"), "changes", ["at"])


def downgrade() -> None:
    for table in ("changes", "idempotency", "jobs", "learners", "datasets", "predictions"):
        op.drop_table(table)
    with op.batch_alter_table("examples") as examples:
        examples.drop_column("prediction")
    with op.batch_alter_table("versions") as versions:
        versions.drop_column("origin")
        versions.drop_column("parent")
    with op.batch_alter_table("tasks") as tasks:
        tasks.drop_column("revision")
