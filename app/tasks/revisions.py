"""From the current version to the next: adapted outside of any transaction, then written as number max + 1.

Where another version became current meanwhile, the new one is made again from that, so that no change of
another client is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import is_id, new_id
from app.db.invalidation_log import record
from app.db.tables import TaskRow, VersionRow
from app.http.etags import UNCONDITIONAL, Condition, etag
from app.http.idempotency import Claim
from app.http.problems import fail
from app.payloads.support import Aim, check_examples, check_size
from app.payloads.targets import aim_key, goals
from app.serving.types import Adapted, SupportSet
from app.tasks import repository
from app.tasks.cache import changed
from app.tasks.dependencies import Shared
from app.tasks.learner_selection import check_served, check_traits
from app.tasks.prepare import Addition, seed_of
from app.tasks.repository import Base, Held
from app.tasks.responses import task_answer
from app.tasks.weights import head_of, not_found
from hyperserve.types import Notice, Task, Timing
from models.artifact import Artifact


@dataclass(frozen=True)
class Draft:
    """A support set in the making: first examples of the base, then those that the base does not have."""

    examples: tuple[Held, ...]
    sources: tuple[int, ...]
    """Which example of the base each of the first ones is, whatever its label."""
    added: tuple[Held, ...] = ()
    """Those of `examples` whose rows are new."""
    dropped: str | None = None
    """Id of the one that the base has and the draft does not."""
    x: npt.NDArray[np.float32] | None = None
    """Decoded, those that the base does not have: [n, *input]."""
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    """Bytes that may have to be written."""
    warnings: tuple[Notice, ...] = ()
    where: str | None = None
    """Pointer to what the request says of it."""

    def grows(self, base: Base) -> bool:
        """Whether it is the base and more examples of the same classes behind it."""
        more = len(self.examples) - len(base.examples)
        same = len(self.counted(base)) == max(1, len(base.version.classes))
        return more > 0 and self.dropped is None and same and self.examples[:-more] == base.examples

    def counted(self, base: Base) -> dict[str, int]:
        """Examples of each class: those of the base in their order, then new ones. Of values those of ""."""
        shots = dict.fromkeys(base.version.classes, 0)
        for held in self.examples:
            shots[held.label] = shots.get(held.label, 0) + 1
        return {label: count for label, count in shots.items() if count}


Edit = Callable[[Base], Draft]
"""Run again where another version became current meanwhile."""


def extended(base: Base, addition: Addition) -> Draft:
    start = base.examples[-1].position + 1
    kind = base.examples[0].kind
    pairs = enumerate(zip(addition.sent.aims, addition.blobs, strict=True))
    added = tuple(
        Held(start + i, new_id("ex"), label, kind, name, target=target)
        for i, ((label, target), (name, _)) in pairs
    )
    known = {held.blob: held.aim for held in reversed(base.examples)}
    return Draft(
        examples=base.examples + added,
        sources=tuple(range(len(base.examples))),
        added=added,
        x=addition.decoded.x,
        blobs=dict(addition.blobs),
        warnings=tuple(addition.warnings(known)),
        where="/support",
    )


def redirected(base: Base, example: str, aim: Aim, *, anew: bool = False) -> Draft:
    """The same input as another example; where it has the label or target already, only if wanted `anew`.

    Raises `ProblemError` 404.
    """
    place = _place(base, example)
    label, target = aim
    if base.examples[place].aim == aim and not anew:
        return Draft(base.examples, tuple(range(len(base.examples))))
    held = replace(base.examples[place], id=new_id("ex"), label=label, target=target)
    return Draft(
        examples=(*base.examples[:place], held, *base.examples[place + 1 :]),
        sources=tuple(range(len(base.examples))),
        added=(held,),
        dropped=example,
        where="/label" if target is None else "/target",
    )


def without(base: Base, example: str) -> Draft:
    """Raises `ProblemError` 404."""
    place = _place(base, example)
    kept = [index for index in range(len(base.examples)) if index != place]
    return Draft(tuple(base.examples[index] for index in kept), tuple(kept), dropped=example)


def _place(base: Base, example: str) -> int:
    for place, held in enumerate(base.examples):
        if held.id == example:
            return place
    raise fail("example_not_found", "The current version holds no such example.")


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
                examples = await repository.get_held(session, tenant, found[1].id) if found else ()
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
    task = await repository.lock_task(session, base.task.tenant, base.task.id)
    if task is None:
        raise not_found()
    if task.current != base.version.number:
        raise MovedError
    terms.condition.check(task.revision)
    version.number = await repository.next_number(session, task)
    await repository.add_version(session, version, base.version, dropped=draft.dropped, added=draft.added)
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
