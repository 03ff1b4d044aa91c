"""The jobs of fault injection, which workers find by HYPERSERVE_JOB_KINDS."""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from workers.jobs import JobContext, Outcome

TABLE = "CREATE TABLE kill_effects (job VARCHAR(40) NOT NULL)"
STEP_SECONDS = 0.1


async def count(context: JobContext) -> Outcome:
    """Run from checkpoint to checkpoint. The effect is one row, without a constraint that would hide a second one."""
    left = context.checkpoint("step")
    first = 0 if left is None else int(left.read_text())
    steps = context.payload["steps"]
    for step in range(first, steps):
        await asyncio.sleep(STEP_SECONDS)
        (context.folder / "new").write_text(str(step + 1))
        (context.folder / "new").rename(context.folder / "step")
        context.progress({"step": step + 1, "steps": steps})

    async def effect(session: AsyncSession) -> None:
        await session.execute(text("INSERT INTO kill_effects (job) VALUES (:job)"), {"job": context.id})

    return Outcome({"resumed_from": first}, effect)


async def endless(context: JobContext) -> Outcome:
    """Run until cancelled."""
    while True:
        context.progress({"waits": True})
        await asyncio.sleep(1)


KINDS = {"count": f"{__name__}:count", "endless": f"{__name__}:endless"}
