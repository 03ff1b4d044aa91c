"""What a process drops when it hears of a task."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from app.db.invalidation_log import EVERYTHING, Change
from app.db.tables import TaskRow
from app.serving.engine import Engine
from app.serving.types import SupportSet
from app.tasks.cache import Head, Heads, Invalidation, changed, purged
from models.artifact import load


async def warm(zoo: Path, *tasks: str) -> tuple[Heads, Engine]:
    """Tasks with their head (of revision 2) and the weights of their version in memory."""
    engine, heads = Engine({"vectors": load(zoo / "vectors")}, arena_bytes=1 << 20), Heads()
    engine.start()
    support = SupportSet(np.eye(2, dtype=np.float32), np.arange(2), ("a", "b"), 1)
    for task in tasks:
        engine.admit(f"ver_{task}", "vectors", (await engine.adapt("vectors", support)).weights)
        with heads.reading(task) as reading:
            heads.put(Head("t", task, f"ver_{task}", 1, "vectors", "d", 1, ("a", "b"), (2,), 2), reading)
    return heads, engine


def task(revision: int) -> TaskRow:
    return TaskRow(id="one", tenant="t", name=None, current=1, revision=revision)


@pytest.mark.parametrize(
    ("news", "heads_left", "weights_left"),
    [
        (changed(task(2)), {"one", "two"}, {"one", "two"}),
        (changed(task(3)), {"two"}, {"one", "two"}),
        (Change("t", "task", "one"), {"two"}, {"one", "two"}),
        (purged("t", "one", ["ver_one", "ver_of_old"]), {"two"}, {"two"}),
        (Change("", EVERYTHING, ""), set(), set()),
        (Change("t", "job", "one"), {"one", "two"}, {"one", "two"}),
    ],
)
def test_what_is_left(zoo: Path, news: Change, heads_left: set[str], weights_left: set[str]) -> None:
    async def test() -> None:
        heads, engine = await warm(zoo, "one", "two")
        try:
            await Invalidation(heads, engine)([news])
            assert {name for name in ("one", "two") if heads.get("t", name)} == heads_left
            assert {name for name in ("one", "two") if engine.holds(f"ver_{name}")} == weights_left
        finally:
            engine.close()

    asyncio.run(test())
