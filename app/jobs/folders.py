"""Folders of jobs: DATA_DIR/jobs/<job>/<attempt>. Checkpoints live there until the job has finished."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from sqlalchemy import select

from app.db.database import Database
from app.db.tables import JobRow
from app.jobs.repository import ACTIVE

_CHUNK = 500


def prepare(data_dir: Path, job: str, attempt: int) -> tuple[Path, Path | None]:
    """Return the empty folder of an attempt, and the folder of the newest attempt before it, if there is one."""
    home = (data_dir / "jobs" / job).resolve()
    folder = home / str(attempt)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    earlier = [int(path.name) for path in home.iterdir() if path.name.isdecimal()]
    before = max((number for number in earlier if number < attempt), default=None)
    return folder, None if before is None else home / str(before)


async def idle(database: Database, data_dir: Path) -> set[Path]:
    """Return the folders of jobs that have finished or are unknown."""
    home = data_dir / "jobs"
    if not home.is_dir():
        return set()
    names = sorted(path.name for path in home.iterdir())
    left = set(names)
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        active = select(JobRow.id).where(JobRow.id.in_(chunk), JobRow.state.in_(ACTIVE))
        async with database.read() as session:
            left -= set(await session.scalars(active))
    return {home / name for name in left}


async def tidy(database: Database, data_dir: Path) -> int:
    """Delete the folders of finished jobs; return their number."""
    folders = await idle(database, data_dir)
    for folder in folders:
        # Off the event loop: there may be gigabytes in it.
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return len(folders)
