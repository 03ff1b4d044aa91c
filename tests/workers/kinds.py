"""Kinds of jobs for tests; children import this module, named by HYPERSERVE_JOB_KINDS."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.db.errors import DatabaseAwayError
from app.db.invalidation_log import Change, record
from app.db.tenancy import TenantSession
from workers.jobs import JobContext, JobError, Outcome

EFFECT = "effect"


async def work(context: JobContext) -> Outcome:
    """Takes `seconds` and tells how far it is; its effect is a row that tests count."""
    print("prints of jobs do not disturb the supervisor")  # noqa: T201
    seconds = context.payload.get("seconds", 0)
    for step in range(20):
        context.progress({"step": step + 1, "steps": 20, "loss": float("nan")})
        await asyncio.sleep(seconds / 20)

    async def effect(session: TenantSession) -> None:
        await record(session, Change(session.tenant, EFFECT, context.id))

    return Outcome({"attempt": context.attempt, "nan": float("inf")}, effect)


async def tidy(context: JobContext) -> Outcome:
    """Leaves a file when all is published."""

    async def after() -> None:
        (context.folder / "tidied").touch()

    return Outcome({}, after=after)


async def refuse(_context: JobContext) -> Outcome:
    raise JobError("no_classes", "The dataset has one class.")


async def crash(_context: JobContext) -> Outcome:
    raise ValueError("secret of the log")


async def refuse_in_effect(_context: JobContext) -> Outcome:
    async def effect(_session: TenantSession) -> None:
        raise JobError("name_taken", "Somebody was faster.")

    return Outcome({}, effect)


async def poison(_context: JobContext) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def away_once(context: JobContext) -> Outcome:
    if context.attempt == 1:
        raise DatabaseAwayError("connection refused")
    return Outcome({})


async def resume(context: JobContext) -> Outcome:
    """Leaves a checkpoint at its first attempt, dies twice, and goes on from there."""
    if context.attempt == 1:
        (context.folder / "step").write_text("7")
    if context.attempt < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    left = context.checkpoint("step")
    assert left is not None
    assert context.previous == context.folder.parent / "2"
    return Outcome({"from": int(left.read_text()), "attempt": context.attempt})


async def stubborn(context: JobContext) -> Outcome:
    """Hears no SIGTERM, blocks its event loop, and has a process of its own; says both pids."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # noqa: ASYNC220
    place = Path(context.payload["pids"])
    place.with_suffix(".tmp").write_text(f"{os.getpid()} {helper.pid}")
    place.with_suffix(".tmp").rename(place)
    time.sleep(600)  # noqa: ASYNC251
    raise AssertionError


async def register_slowly(context: JobContext) -> Outcome:
    """Register a stream task; the first attempt stops in the middle, after leaving a file that says so."""
    from workers.jobs import register_task

    def progress(values: Mapping[str, Any]) -> None:
        context.progress(values)
        if context.attempt == 1 and "step" in values:
            (context.folder / "middle").touch()
            time.sleep(600)

    return await register_task.run(replace(context, progress=progress))


KINDS = {
    function.__name__: f"{__name__}:{function.__name__}"
    for function in (work, tidy, refuse, crash, refuse_in_effect, poison, away_once, resume, stubborn)
}
