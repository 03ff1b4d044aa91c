"""Tasks of values: target vectors beside labels, of versions, examples, kept predictions and feedback.

Revision: 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_COLUMNS: list[tuple[str, str, type[sa.Integer | sa.JSON]]] = [
    ("versions", "target", sa.Integer),
    ("examples", "target", sa.JSON),
    ("predictions", "target", sa.JSON),
    ("predictions", "feedback_target", sa.JSON),
]


def upgrade() -> None:
    for table, column, kind in _COLUMNS:
        with op.batch_alter_table(table) as altered:
            altered.add_column(sa.Column(column, kind(), nullable=True))


def downgrade() -> None:
    """Tasks of values are dropped: what comes before has no place for them. `hyperserve gc` drops their inputs."""
    valued = "(SELECT task_id FROM versions WHERE target IS NOT NULL)"
    for statement in (
        f"DELETE FROM idempotency WHERE subject IN {valued}",
        f"DELETE FROM predictions WHERE task_id IN {valued}",
        f"DELETE FROM version_examples WHERE version_id IN (SELECT id FROM versions WHERE task_id IN {valued})",
        f"DELETE FROM examples WHERE task_id IN {valued}",
        # Versions go by themselves here, and with their tasks where foreign keys are kept.
        f"DELETE FROM tasks WHERE id IN {valued}",
        "DELETE FROM versions WHERE target IS NOT NULL",
    ):
        op.execute(statement)
    for table, column, _ in reversed(_COLUMNS):
        with op.batch_alter_table(table) as altered:
            altered.drop_column(column)
