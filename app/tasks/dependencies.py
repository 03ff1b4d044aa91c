"""What the services of tasks share in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import is_id
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.tables import TaskRow, VersionRow
from app.http.problems import fail
from app.learners.service import Learners, UnknownLearnerError
from app.serving.engine import Engine
from app.tasks import repository
from app.tasks.cache import Head, Heads
from app.tasks.garbage import Collector
from app.tasks.learner_migration import Renewer
from app.tasks.weights import Restorer, head_of, not_found
from app.tasks.writer import Writer
from app.telemetry.spans import span
from hyperserve.types import Timing
from models.artifact import Artifact

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Shared:
    database: Database
    blobs: Blobs
    learners: Learners
    engine: Engine
    pool: Executor
    heads: Heads
    garbage: Collector
    restorer: Restorer
    writer: Writer
    renewer: Renewer

    async def off_loop(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(work, *args, **kwargs))

    async def decode(self, timing: Timing, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same, as the phase `decode` of a request."""
        started = time.perf_counter()
        with span("decode"):
            try:
                answer = await self.off_loop(work, *args, **kwargs)
            except UnknownLearnerError as error:
                # Looked for here: a thread that waits for the database keeps others' requests waiting.
                if await self.learners.find(error.name) is None:
                    raise
                answer = await self.off_loop(work, *args, **kwargs)
        timing["decode"] = timing.get("decode", 0.0) + (time.perf_counter() - started) * 1e3
        return answer

    async def head(self, tenant: str, task: str, number: int | None = None) -> Head:
        """A version, the current one without a number: from memory when it is there, else from the database.

        Raises `ProblemError` 404.
        """
        if head := self.heads.get(tenant, task, number):
            return head
        with self.heads.reading(task) as reading:
            async with self.database.read() as session:
                found = await self.find(session, tenant, task, number)
            head = head_of(*found)
            self.heads.put(head, reading, number)
        return head

    async def find(
        self, session: AsyncSession, tenant: str, task: str, number: int | None = None
    ) -> tuple[TaskRow, VersionRow]:
        """A version as the database has it, the current one without a number. Raises `ProblemError` 404."""
        found = await repository.get_current(session, tenant, task) if is_id(task, "task") else None
        if found is None:
            raise not_found()
        if number is not None:
            found = await repository.get_version(session, tenant, task, number)
            if found is None:
                raise no_version()
        return found

    async def artifact(self, learner: str) -> Artifact:
        """Of a task that is there. Raises `ProblemError` 503."""
        artifact = await self.learners.find(learner)
        if artifact is None:
            raise fail("learner_unavailable", f"The learner {learner} of the task is not served any more.")
        return artifact


def no_version() -> Exception:
    return fail("version_not_found", "The task has no such version.", "/version")
