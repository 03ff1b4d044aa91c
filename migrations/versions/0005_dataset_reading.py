"""Datasets: the options by which the file is read, and what its inspection reported.

Revision: 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = ("options", "report")


def upgrade() -> None:
    with op.batch_alter_table("datasets") as datasets:
        for column in _COLUMNS:
            datasets.add_column(sa.Column(column, sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("datasets") as datasets:
        for column in reversed(_COLUMNS):
            datasets.drop_column(column)
