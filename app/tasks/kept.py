"""Predictions that were kept for feedback, in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import PredictionRow

AT_ONCE = 500
"""Lapsed predictions that one transaction drops."""


async def add_predictions(session: AsyncSession, rows: Sequence[PredictionRow]) -> None:
    session.add_all(rows)
    await session.flush()


async def get_prediction(
    session: AsyncSession, tenant: str, prediction: str, *, lock: bool = False
) -> PredictionRow | None:
    """Locked until the end of the transaction, if wanted."""
    query = select(PredictionRow).where(PredictionRow.tenant == tenant, PredictionRow.id == prediction)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def drop_lapsed(session: AsyncSession, now: datetime) -> list[tuple[str, str]]:
    """Some of those that are over; pairs (tenant, blob) that they named. Empty when there are none."""
    lapsed = (
        select(PredictionRow.id)
        .where(PredictionRow.expires_at < now)
        .order_by(PredictionRow.expires_at)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    ids = list(await session.scalars(lapsed))
    gone = delete(PredictionRow).where(PredictionRow.id.in_(ids))
    rows = await session.execute(gone.returning(PredictionRow.tenant, PredictionRow.blob))
    return [(row[0], row[1]) for row in rows]
