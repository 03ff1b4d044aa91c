"""Revisions of a task: the next version is adapted outside of any transaction, then written with the next number.

If another version became current meanwhile, the revision is made again from that one, so that no change of another
client is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from app.core.errors import AppError
from app.core.ids import new_id
from app.db.invalidation_log import record
from app.db.tables import TaskRow, VersionRow
from app.db.tenancy import Store, TenantSession
from app.http.body import Body
from app.http.etags import UNCONDITIONAL, Condition, etag
from app.http.idempotency import Claim
from app.http.problems import fail
from app.payloads.support import GroundTruth, check_examples, check_size
from app.payloads.targets import learner_targets, truth_key
from app.payloads.warnings import fit_warnings
from app.serving.engine_types import Adapted, SupportSet
from app.tasks import prepare, repository, schemas
from app.tasks.cache import TaskVersionRef, task_changed
from app.tasks.learner_selection import check_served, check_traits
from app.tasks.prepare import PreparedAddition, seed_of, truth_of
from app.tasks.repository import StoredExample, task_not_found
from app.tasks.resources import TaskResources, add_timing
from app.tasks.weights import VersionWeights
from hyperserve.types import Notice, Task, Timing
from models.artifact import Artifact

ATTEMPTS = 8
"""Attempts against writers in other processes; those of this process wait for each other."""


@dataclass(frozen=True)
class RevisionBase:
    """The current version of a task, from which the next one is made."""

    task: TaskRow
    version: VersionRow
    examples: tuple[StoredExample, ...]

    def index_of(self, example: str) -> int:
        """Return where an example is, by its id. Raises `ProblemError` 404."""
        for index, one in enumerate(self.examples):
            if one.id == example:
                return index
        raise fail("example_not_found", "The current version has no such example.")


@dataclass(frozen=True)
class SupportDraft:
    """The support set of the next version: examples of the base, then those that the base does not have."""

    examples: tuple[StoredExample, ...]
    sources: tuple[int, ...]
    """For each of the first examples, the index of the base's example with the same input."""
    added: tuple[StoredExample, ...] = ()
    """Those of `examples` whose rows are new."""
    dropped: str | None = None
    """Id of the example that the base has and the draft does not."""
    x: npt.NDArray[np.float32] | None = None
    """Decoded inputs of the examples that the base does not have: [n, *input]."""
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    """Bytes that may have to be written."""
    warnings: tuple[Notice, ...] = ()
    where: str | None = None
    """Pointer to the part of the request that changes the support set."""

    def extends(self, base: RevisionBase) -> bool:
        """Return whether it is the base followed by more examples of the same classes."""
        more = len(self.examples) - len(base.examples)
        same = len(self.shots(base)) == max(1, len(base.version.classes))
        return more > 0 and self.dropped is None and same and self.examples[:-more] == base.examples

    def shots(self, base: RevisionBase) -> dict[str, int]:
        """Return the examples of each class: classes of the base in their order, then new ones.

        All examples of a regression task count as those of the class "".
        """
        shots = dict.fromkeys(base.version.classes, 0)
        for example in self.examples:
            shots[example.label] = shots.get(example.label, 0) + 1
        return {label: count for label, count in shots.items() if count}


Edit = Callable[[RevisionBase], SupportDraft]
"""Drafts the next support set; called again if another version became current meanwhile."""
Effect = Callable[[TenantSession, TaskRow, VersionRow], Awaitable[None]]
"""More to be written in the transaction of the new version."""


class BaseChangedError(AppError):
    """Another version became current since the base was read."""


@dataclass(frozen=True)
class RevisedTask:
    """A task after a change, or as it is if nothing changed."""

    task: Task
    revision: int
    promoted: bool = True
    """Whether the version is the current one."""

    @property
    def headers(self) -> dict[str, str]:
        query = "" if self.promoted else f"?version={self.task.version}"
        return {"Location": f"/v1/tasks/{self.task.id}{query}", "ETag": etag(self.revision)}


@dataclass(frozen=True)
class RevisionTerms:
    """The origin of a revision, and the conditions and effects of writing it."""

    origin: str
    promote: bool = True
    condition: Condition = UNCONDITIONAL
    claim: Claim = field(default_factory=Claim)
    effect: Effect | None = None
    timing: Timing = field(default_factory=dict)
    """Time that the request has spent before."""


@dataclass(frozen=True)
class RevisionService:
    """Makes new versions of a task. Raises `ProblemError`, and what the engine raises.

    When a method returns, the version is committed; when it raises, nothing is stored.
    """

    resources: TaskResources
    store: Store

    async def add(
        self, task: str, body: Body, options: schemas.PromoteOption, condition: Condition, claim: Claim
    ) -> RevisedTask:
        """Add examples of existing classes or of new ones."""
        ref = await self.resources.versions.find(self.store, task)
        artifact = await self.resources.artifact(ref.learner)
        (options, addition), timing = await self.resources.decode(
            prepare.add_support, body, options, artifact, ref
        )
        terms = RevisionTerms("support", options.promote, condition, claim, timing=timing)
        return await self.revise(task, partial(extended, addition=addition), terms)

    async def relabel(
        self,
        task: str,
        example: str,
        given: schemas.Relabelling,
        options: schemas.PromoteOption,
        condition: Condition,
    ) -> RevisedTask:
        """Give one example of the current version another label or target."""
        truth = truth_of(given, await self.resources.versions.find(self.store, task))
        edit = partial(relabelled, example=example, truth=truth)
        return await self.revise(task, edit, RevisionTerms("edited", options.promote, condition))

    async def remove(
        self, task: str, example: str, options: schemas.PromoteOption, condition: Condition
    ) -> RevisedTask:
        """Remove one example of the current version; a class goes with its last one."""
        edit = partial(without, example=example)
        return await self.revise(task, edit, RevisionTerms("edited", options.promote, condition))

    async def revise(self, task: str, edit: Edit, terms: RevisionTerms) -> RevisedTask:
        """Make the next version by an edit of the current one. No version is made if nothing changes."""
        async with self.resources.revision_locks.setdefault(task, asyncio.Lock()):
            for _ in range(ATTEMPTS):
                base = await self._base(task)
                terms.condition.check(base.task.revision)
                try:
                    return await self._revised(base, edit, terms)
                except BaseChangedError:
                    continue
        raise fail("task_contended", "Other requests kept changing the task; try again.")

    async def _base(self, task: str) -> RevisionBase:
        async with self.store.read() as session:
            found = await repository.find_version(session, task)
            examples = await repository.get_examples(session, found[1].id)
        # Another process may have made it; it is told if the edit changes nothing.
        self.resources.versions.drop(task, found[0].revision)
        if not examples:
            raise task_not_found()
        return RevisionBase(*found, examples)

    async def _revised(self, base: RevisionBase, edit: Edit, terms: RevisionTerms) -> RevisedTask:
        artifact = await self.resources.artifact(base.version.learner)
        (draft, support), decoding = await self.resources.decode(_drafted, base, edit, artifact)
        if draft.examples == base.examples:
            unchanged = schemas.task_answer(base.task, base.version)
            return RevisedTask(unchanged, base.task.revision, terms.promote)
        adapted, shape = await self._adapted(base, draft, support, artifact)
        details = {
            "fit": adapted.fit,
            "timing": add_timing(terms.timing, decoding, adapted.timing),
            "warnings": [*draft.warnings, *fit_warnings(adapted.fit)],
        }
        version = VersionRow(
            id=new_id("ver"),
            task_id=base.task.id,
            learner=artifact.name,
            learner_digest=artifact.digest,
            seed=support.seed,
            classes=list(support.classes),
            shots=list(draft.shots(base).values()),
            shape=list(shape),
            target=base.version.target,
            parent=base.version.number,
            origin=terms.origin,
        )

        async def rows(session: TenantSession) -> RevisedTask:
            return await _write(session, base, version, draft, terms, details)

        weights, versions = VersionWeights(self.resources, self.store), self.resources.versions
        with versions.reading(base.task.id) as read:
            # Features of some of the examples are of no use: all are made again when they are needed.
            features = adapted.features if len(adapted.features) == len(draft.examples) else None
            revised = await weights.write_version(version, draft.blobs, features, rows)
            versions.drop(base.task.id, revised.revision)
            ref = replace(TaskVersionRef.of(base.task, version), revision=revised.revision)
            weights.admit(ref, adapted.weights, read, None if terms.promote else version.number)
        return revised

    async def _adapted(
        self, base: RevisionBase, draft: SupportDraft, support: SupportSet, artifact: Artifact
    ) -> tuple[Adapted, tuple[int, ...]]:
        """Return weights of the draft and the shape of an input. Only what the learner has not seen is embedded."""
        if (adapted := await self._extended(base, draft, support, artifact)) is not None:
            return adapted, tuple(base.version.shape)
        weights, ref = VersionWeights(self.resources, self.store), TaskVersionRef.of(base.task, base.version)
        sources, features = list(draft.sources), None
        if artifact.digest == base.version.learner_digest:
            features = await weights.features(ref, len(base.examples))
        if features is not None:
            shape = tuple(base.version.shape)
            # Memory that nobody reads is never touched.
            x = np.empty((len(draft.examples), *shape), np.float32)
            features = features[sources]
        else:
            inputs = [(example.kind, example.blob) for example in base.examples]
            old = await weights.inputs(ref, artifact, inputs)
            shape = old.shape[1:]
            x = np.empty((len(draft.examples), *shape), np.float32)
            x[: len(sources)] = old[sources]
        if draft.x is not None:
            x[len(sources) :] = draft.x
        support = replace(support, x=x)
        return await self.resources.runtime.engine.adapt(artifact.name, support, features), shape

    async def _extended(
        self, base: RevisionBase, draft: SupportDraft, support: SupportSet, artifact: Artifact
    ) -> Adapted | None:
        """Return the weights of the base, extended by an incremental learner, with features of new examples alone.

        Returns None if that is not possible here.
        """
        same = artifact.digest == base.version.learner_digest
        if not same or draft.x is None or support.y is None or not draft.extends(base):
            return None
        added = SupportSet(draft.x, support.y[len(base.examples) :], support.classes, support.seed)
        return await self.resources.runtime.engine.extend(base.version.id, artifact.name, added)


def extended(base: RevisionBase, addition: PreparedAddition) -> SupportDraft:
    """Return the base with more examples."""
    start, kind = base.examples[-1].position + 1, base.examples[0].kind
    pairs = enumerate(zip(addition.submitted.truths, addition.inputs, strict=True))
    added = tuple(
        StoredExample(start + index, new_id("ex"), truth.label, kind, blob, target=truth.target)
        for index, (truth, (blob, _)) in pairs
    )
    known = {example.blob: example.truth for example in reversed(base.examples)}
    return SupportDraft(
        examples=base.examples + added,
        sources=tuple(range(len(base.examples))),
        added=added,
        x=addition.decoded.x,
        blobs=dict(addition.inputs),
        warnings=tuple(addition.warnings(known)),
        where="/support",
    )


def relabelled(base: RevisionBase, example: str, truth: GroundTruth, *, always: bool = False) -> SupportDraft:
    """Return the base with another label or target for one example. Raises `ProblemError` 404.

    If the example has that label or target already, nothing changes, unless it `always` becomes another example.
    """
    index = base.index_of(example)
    old = base.examples[index]
    sources = tuple(range(len(base.examples)))
    if old.truth == truth and not always:
        return SupportDraft(base.examples, sources)
    new = replace(old, id=new_id("ex"), label=truth.label, target=truth.target)
    return SupportDraft(
        examples=(*base.examples[:index], new, *base.examples[index + 1 :]),
        sources=sources,
        added=(new,),
        dropped=example,
        where="/label" if truth.target is None else "/target",
    )


def without(base: RevisionBase, example: str) -> SupportDraft:
    """Return the base without one example. Raises `ProblemError` 404."""
    removed = base.index_of(example)
    left = [index for index in range(len(base.examples)) if index != removed]
    return SupportDraft(tuple(base.examples[index] for index in left), tuple(left), dropped=example)


def _drafted(base: RevisionBase, edit: Edit, artifact: Artifact) -> tuple[SupportDraft, SupportSet]:
    """Return a draft that the learner takes, and its support set with an empty x. Runs off the event loop."""
    draft = edit(base)
    shots, target = draft.shots(base), base.version.target
    classes = tuple(shots) if target is None else ()
    check_served(artifact, target)
    if target is None:
        check_size(list(shots.values()), draft.where)
    else:
        check_examples(len(draft.examples), draft.where, least=1)
    check_traits(artifact, list(shots.values()), target, draft.where)
    truths = [example.truth for example in draft.examples]
    seed = seed_of([truth_key(truth) for truth in truths], [example.blob for example in draft.examples])
    return draft, SupportSet(np.empty((0,), np.float32), learner_targets(truths, classes), classes, seed)


async def _write(
    session: TenantSession,
    base: RevisionBase,
    version: VersionRow,
    draft: SupportDraft,
    terms: RevisionTerms,
    details: Mapping[str, object],
) -> RevisedTask:
    task = await repository.lock_task(session, base.task.id)
    if task is None:
        raise task_not_found()
    if task.current != base.version.number:
        raise BaseChangedError
    terms.condition.check(task.revision)
    version.number = await repository.next_number(session, task)
    await repository.add_version(session, version, base.version, dropped=draft.dropped, added=draft.added)
    if terms.promote:
        task.current, task.revision = version.number, task.revision + 1
    if terms.effect is not None:
        await terms.effect(session, task, version)
    await session.flush()
    answer = schemas.task_answer(task, version).model_copy(update=details)
    revised = RevisedTask(answer, task.revision, terms.promote)
    await terms.claim.keep(session, 201, answer, revised.headers, task.id)
    if terms.promote:
        await record(session, task_changed(task))
    return revised
