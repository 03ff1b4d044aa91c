"""What a process drops from memory if another one changes or deletes a task."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from app.db.invalidation_log import EVERYTHING, Change
from app.db.tables import TaskRow
from app.serving.engine import Engine
from app.serving.engine_types import SupportSet
from app.tasks.cache import TaskInvalidation, TaskVersionCache, TaskVersionRef, task_changed, task_deleted
from models.artifact import load


async def warm(zoo: Path, *tasks: str) -> tuple[TaskVersionCache, Engine]:
    """Return memory that holds the version of each task, as of revision 2, and its weights."""
    engine, versions = Engine({"vectors": load(zoo / "vectors")}, arena_bytes=1 << 20), TaskVersionCache()
    engine.start()
    support = SupportSet(np.eye(2, dtype=np.float32), np.arange(2), ("a", "b"), 1)
    for task in tasks:
        engine.admit(f"ver_{task}", "vectors", (await engine.adapt("vectors", support)).weights)
        ref = TaskVersionRef("t", task, f"ver_{task}", 1, "vectors", "d", 1, ("a", "b"), (2,), 2)
        with versions.reading(task) as read:
            versions.put(ref, read)
    return versions, engine


def task(revision: int) -> TaskRow:
    return TaskRow(id="one", tenant="t", name=None, current=1, revision=revision)


@pytest.mark.parametrize(
    ("change", "versions_left", "weights_left"),
    [
        (task_changed(task(2)), {"one", "two"}, {"one", "two"}),
        (task_changed(task(3)), {"two"}, {"one", "two"}),
        (Change("t", "task", "one"), {"two"}, {"one", "two"}),
        (task_deleted("t", "one", ["ver_one", "ver_of_old"]), {"two"}, {"two"}),
        (Change("", EVERYTHING, ""), set(), set()),
        (Change("t", "job", "one"), {"one", "two"}, {"one", "two"}),
    ],
)
def test_what_is_left(zoo: Path, change: Change, versions_left: set[str], weights_left: set[str]) -> None:
    async def test() -> None:
        versions, engine = await warm(zoo, "one", "two")
        try:
            await TaskInvalidation(versions, engine)([change])
            assert {name for name in ("one", "two") if versions.get("t", name)} == versions_left
            assert {name for name in ("one", "two") if engine.holds(f"ver_{name}")} == weights_left
        finally:
            engine.close()

    asyncio.run(test())
