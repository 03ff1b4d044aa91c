"""Process-wide state of tasks, shared by the services of all requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from app.http.problems import fail
from app.learners.served_learners import ServedLearners, UnknownLearnerError
from app.runtime import Runtime
from app.tasks.cache import TaskInvalidation, TaskVersionCache, TaskVersionRef
from app.tasks.learner_selection import UnsuitableLearnerError
from app.telemetry.spans import span
from hyperserve.types import Timing
from models.artifact import Artifact

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class TaskResources:
    runtime: Runtime
    learners: ServedLearners
    versions: TaskVersionCache = field(default_factory=TaskVersionCache)
    revision_locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """By id of a task: requests of this process that revise it wait for each other."""
    migrations: dict[tuple[str, str], asyncio.Task[TaskVersionRef]] = field(default_factory=dict)
    """Migrations that are running, by version id and digest of the learner."""

    @classmethod
    def open(cls, runtime: Runtime, learners: ServedLearners) -> TaskResources:
        resources = cls(runtime, learners)
        runtime.cluster.watcher.subscribe(TaskInvalidation(resources.versions, runtime.engine))
        return resources

    async def artifact(self, learner: str) -> Artifact:
        """Return the learner of a task. Raises `ProblemError` 503 if it is no longer served."""
        artifact = await self.learners.find(learner)
        if artifact is None:
            raise fail("learner_unavailable", f"The task's learner, {learner}, is no longer served.")
        return artifact

    async def decode(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> tuple[R, Timing]:
        """Run off the event loop as the phase `decode` of a request. Returns the result and the time it took.

        Problems that others' learners could solve name those learners.
        """
        started = time.perf_counter()
        with span("decode"):
            try:
                result = await self._decode(partial(work, *args, **kwargs))
            except UnsuitableLearnerError as error:
                raise error.suggesting(self.learners.artifacts.values()) from None
        return result, {"decode": (time.perf_counter() - started) * 1e3}

    async def _decode(self, work: Callable[[], R]) -> R:
        try:
            return await self.runtime.in_decoder(work)
        except UnknownLearnerError as error:
            # Looked for here: a thread that waits for the database keeps others' requests waiting.
            if await self.learners.find(error.name) is None:
                raise
            return await self.runtime.in_decoder(work)


def add_timing(*timings: Timing) -> Timing:
    """Return the time that each phase took in all of them together."""
    total: Timing = {}
    for timing in timings:
        for phase, spent in timing.items():
            total[phase] = total.get(phase, 0.0) + spent
    return total
