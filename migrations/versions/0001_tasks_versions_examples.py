"""Tasks, their versions and examples.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _id(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(40), nullable=False)


def _common() -> list[sa.Column[object]]:
    return [
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    ]


def _belongs(table: str, column: str, referred: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{referred}")
    return sa.ForeignKeyConstraint([column], [f"{referred}.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    op.create_table(
        "tasks",
        _id("id"),
        *_common(),
        sa.Column("name", sa.String(200), nullable=True),
        sa.Column("current", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
    )
    op.create_index(op.f("ix_tasks_tenant_id"), "tasks", ["tenant", "id"])
    op.create_table(
        "versions",
        _id("id"),
        *_common(),
        _id("task_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("learner", sa.String(63), nullable=False),
        sa.Column("learner_digest", sa.String(64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("shots", sa.JSON(), nullable=False),
        sa.Column("shape", sa.JSON(), nullable=False),
        _belongs("versions", "task_id", "tasks"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_versions")),
        sa.UniqueConstraint("task_id", "number", name=op.f("uq_versions_task_id_number")),
    )
    op.create_table(
        "examples",
        _id("id"),
        *_common(),
        _id("task_id"),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("blob", sa.String(64), nullable=False),
        _belongs("examples", "task_id", "tasks"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_examples")),
    )
    op.create_index(op.f("ix_examples_task_id"), "examples", ["task_id"])
    op.create_index(op.f("ix_examples_tenant_blob"), "examples", ["tenant", "blob"])
    op.create_table(
        "version_examples",
        _id("version_id"),
        sa.Column("position", sa.Integer(), nullable=False),
        _id("example_id"),
        sa.Column("tenant", sa.String(64), nullable=False),
        _belongs("version_examples", "version_id", "versions"),
        _belongs("version_examples", "example_id", "examples"),
        sa.PrimaryKeyConstraint("version_id", "position", name=op.f("pk_version_examples")),
    )
    op.create_index(op.f("ix_version_examples_example_id"), "version_examples", ["example_id"])


def downgrade() -> None:
    for table in ("version_examples", "examples", "versions", "tasks"):
        op.drop_table(table)
