"""From the current version to the next: adapted outside of any transaction, then written as number max + 1.

Where another version became current meanwhile, the new one is made again from that, so that no change of
another client is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.changes import record
from app.db.tables import TaskRow, VersionRow
from app.http.etags import UNCONDITIONAL, Condition, etag
from app.http.idempotency import Claim
from app.http.problems import fail
from app.ids import is_id, new_id
from app.serving.types import Adapted, SupportSet
from app.tasks import history, repository
from app.tasks.answers import task_answer
from app.tasks.drafts import Draft, Edit
from app.tasks.fit import check_served, check_traits
from app.tasks.history import Base
from app.tasks.news import changed
from app.tasks.prepare import seed_of
from app.tasks.restore import head_of, not_found
from app.tasks.shared import Shared
from app.tasks.support import check_examples, check_size
from app.tasks.targets import aim_key, goals
from hyperserve.types import Task, Timing
from models.artifact import Artifact

ATTEMPTS = 8
"""To be the next version, beside writers in other processes; those of this process wait for each other."""

Then = Callable[[AsyncSession, TaskRow, VersionRow, Draft], Awaitable[None]]
"""More to be written in the transaction of the new version."""


class MovedError(Exception):
    """What a draft was made from is not so any more."""


@dataclass(frozen=True)
class Revised:
    """A task after a change, or as it is."""

    task: Task
    revision: int

    def headers(self, *, promoted: bool = True) -> dict[str, str]:
        query = "" if promoted else f"?version={self.task.version}"
        return {"Location": f"/v1/tasks/{self.task.id}{query}", "ETag": etag(self.revision)}


@dataclass(frozen=True)
class Terms:
    """How a new version is to be made."""

    origin: str
    promote: bool = True
    condition: Condition = UNCONDITIONAL
    claim: Claim = field(default_factory=Claim)
    then: Then | None = None


class Reviser:
    """Makes versions. Raises `ProblemError`, and what the engine raises."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def revise(self, tenant: str, task: str, edit: Edit, terms: Terms, timing: Timing) -> Revised:
        """When it returns, the version is committed; when it raises, nothing is stored."""
        async with self._turns.setdefault(task, asyncio.Lock()):
            for _ in range(ATTEMPTS):
                base = await self._base(tenant, task)
                terms.condition.check(base.task.revision)
                try:
                    return await self._made(base, edit, terms, timing)
                except MovedError:
                    continue
        raise fail("task_contended", "Others changed the task all the time; try again.")

    async def _base(self, tenant: str, task: str) -> Base:
        found = None
        if is_id(task, "task"):
            async with self._shared.database.read() as session:
                found = await repository.get_current(session, tenant, task)
                examples = await history.get_held(session, tenant, found[1].id) if found else ()
        if not found or not examples:
            raise not_found()
        return Base(*found, examples)

    async def _made(self, base: Base, edit: Edit, terms: Terms, timing: Timing) -> Revised:
        shared = self._shared
        artifact = await shared.artifact(base.version.learner)
        draft, support = await shared.decode(timing, self._drafted, base, edit, artifact)
        if draft.examples == base.examples:
            return Revised(task_answer(base.task, base.version), base.task.revision)
        adapted, shape = await self._adapted(base, draft, support, artifact)
        timing |= adapted.timing
        version = VersionRow(
            id=new_id("ver"),
            tenant=base.task.tenant,
            task_id=base.task.id,
            learner=artifact.name,
            learner_digest=artifact.digest,
            seed=support.seed,
            classes=list(support.classes),
            shots=list(draft.counted(base).values()),
            shape=list(shape),
            target=base.version.target,
            parent=base.version.number,
            origin=terms.origin,
        )

        async def rows(session: AsyncSession) -> Revised:
            return await _written(session, base, version, draft, terms, timing)

        with shared.heads.reading(base.task.id) as reading:
            # Features of a part are no use: they are made again where somebody needs them all.
            features = adapted.features if len(adapted.features) == len(draft.examples) else None
            revised = await shared.writer.version(version, draft.blobs, features, rows)
            shared.heads.drop(base.task.id, revised.revision)
            if not reading.gone:
                head = replace(head_of(base.task, version), revision=revised.revision)
                shared.engine.admit(version.id, version.learner, adapted.weights)
                shared.heads.put(head, reading, None if terms.promote else version.number)
                shared.restorer.share(head, adapted.weights)
        return revised

    def _drafted(self, base: Base, edit: Edit, artifact: Artifact) -> tuple[Draft, SupportSet]:
        """Off the event loop. `x` of the support set is of no use yet."""
        draft = edit(base)
        counted, target = draft.counted(base), base.version.target
        shots = list(counted.values())
        classes = tuple(counted) if target is None else ()
        check_served(artifact, target)
        if target is None:
            check_size(shots, draft.where)
        else:
            check_examples(sum(shots), draft.where, least=1)
        check_traits(shots, target, artifact, self._shared.learners, draft.where)
        aims = [held.aim for held in draft.examples]
        seed = seed_of([aim_key(aim) for aim in aims], [held.blob for held in draft.examples])
        return draft, SupportSet(np.empty((0,), np.float32), goals(aims, classes), classes, seed)

    async def _adapted(
        self, base: Base, draft: Draft, support: SupportSet, artifact: Artifact
    ) -> tuple[Adapted, tuple[int, ...]]:
        """Weights of the draft and the shape of an input. Only what the learner has not seen is embedded."""
        shared, head, sources = self._shared, head_of(base.task, base.version), list(draft.sources)
        if (adapted := await self._extended(base, draft, support, artifact)) is not None:
            return adapted, tuple(base.version.shape)
        features = None
        if artifact.digest == base.version.learner_digest:
            features = await shared.restorer.features(head, len(base.examples))
        if features is not None:
            shape = tuple(base.version.shape)
            # Memory that nobody reads is never touched.
            x = np.empty((len(draft.examples), *shape), np.float32)
            features = features[sources]
        else:
            stored = [held.stored for held in base.examples]
            old = await shared.restorer.arrays(head, artifact, stored)
            shape = old.shape[1:]
            x = np.empty((len(draft.examples), *shape), np.float32)
            x[: len(sources)] = old[sources]
        if draft.x is not None:
            x[len(sources) :] = draft.x
        support = SupportSet(x, support.y, support.classes, support.seed)
        return await shared.engine.adapt(artifact.name, support, features), shape

    async def _extended(
        self, base: Base, draft: Draft, support: SupportSet, artifact: Artifact
    ) -> Adapted | None:
        """By the weights of the base, of a learner that adds to them; None where that cannot be done here.

        The features are those of what was added alone.
        """
        same = artifact.digest == base.version.learner_digest
        if not same or draft.x is None or support.y is None or not draft.grows(base):
            return None
        added = SupportSet(draft.x, support.y[len(base.examples) :], support.classes, support.seed)
        return await self._shared.engine.extend(base.version.id, artifact.name, added)


async def _written(
    session: AsyncSession, base: Base, version: VersionRow, draft: Draft, terms: Terms, timing: Timing
) -> Revised:
    task = await history.lock_task(session, base.task.tenant, base.task.id)
    if task is None:
        raise not_found()
    if task.current != base.version.number:
        raise MovedError
    terms.condition.check(task.revision)
    version.number = await history.next_number(session, task)
    await history.add_version(session, version, base.version, dropped=draft.dropped, added=draft.added)
    if terms.promote:
        task.current, task.revision = version.number, task.revision + 1
    if terms.then is not None:
        await terms.then(session, task, version, draft)
    await session.flush()
    answer = task_answer(task, version).model_copy(
        update={"timing": timing, "warnings": list(draft.warnings)}
    )
    revised = Revised(answer, task.revision)
    await terms.claim.keep(session, 201, answer, revised.headers(promoted=terms.promote), task.id)
    if terms.promote:
        await record(session, changed(task))
    return revised
