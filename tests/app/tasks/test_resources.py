"""What requests share: threads that decode, and learners that may be loaded late."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.learners.served_learners import ServedLearners, UnknownLearnerError
from models.artifact import Artifact, load
from tests.app.tasks.resources import task_resources

PATIENCE_SECONDS = 5.0


@pytest.mark.parametrize("comes", [True, False])
def test_no_thread_waits_for_a_learner_that_is_looked_for(zoo: Path, comes: bool) -> None:
    """Requests for learners that are loaded are decoded meanwhile."""
    late = load(zoo / "vectors")
    learners = ServedLearners({}, {})

    async def test() -> None:
        asked, answered = asyncio.Event(), asyncio.Event()

        async def look(_: str) -> Artifact | None:
            asked.set()
            await answered.wait()
            if comes:
                learners.add(late)
            return late if comes else None

        learners.set_late_lookup(look)
        with ThreadPoolExecutor(1) as pool:
            resources = task_resources(pool, learners=learners)
            waiting = asyncio.create_task(resources.decode(learners.named, "vectors"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asked.wait()
                assert (await resources.decode(str, 1))[0] == "1"
                answered.set()
                if comes:
                    found, timing = await waiting
                    assert found is late
                    assert timing["decode"] > 0
                else:
                    with pytest.raises(UnknownLearnerError):
                        await waiting

    asyncio.run(test())
