"""What requests share: threads that decode, and learners that may come late."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from app.learners.service import Learners, UnknownLearnerError
from app.tasks.dependencies import Shared
from models.artifact import Artifact, load

PATIENCE_SECONDS = 5.0


def sharing(learners: Learners, pool: ThreadPoolExecutor) -> Shared:
    """Of which nothing else is used."""
    nothing = cast(Any, None)
    return Shared(
        database=nothing,
        blobs=nothing,
        learners=learners,
        engine=nothing,
        pool=pool,
        heads=nothing,
        garbage=nothing,
        restorer=nothing,
        writer=nothing,
        renewer=nothing,
    )


@pytest.mark.parametrize("comes", [True, False])
def test_no_thread_waits_for_a_learner_that_is_looked_for(zoo: Path, comes: bool) -> None:
    """Who asks a learner that is here is decoded meanwhile."""
    late = load(zoo / "vectors")
    learners = Learners({}, {})

    async def test() -> None:
        asked, answered = asyncio.Event(), asyncio.Event()

        async def look(_: str) -> Artifact | None:
            asked.set()
            await answered.wait()
            if comes:
                learners.add(late)
            return late if comes else None

        learners.look_late(look)
        with ThreadPoolExecutor(1) as pool:
            shared = sharing(learners, pool)
            waiting = asyncio.create_task(shared.decode({}, learners.named, "vectors"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asked.wait()
                assert await shared.decode({}, str, 1) == "1"
                answered.set()
                if comes:
                    assert await waiting is late
                else:
                    with pytest.raises(UnknownLearnerError):
                        await waiting

    asyncio.run(test())
