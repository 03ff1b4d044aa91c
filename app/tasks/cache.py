"""The cache of versions of tasks: what a warm predict must know of a version, so that it needs no database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.core.version_cache import OWN_WEIGHT, VersionCache
from app.db.invalidation_log import EVERYTHING, Change
from app.db.tables import TaskRow, VersionRow
from app.db.tenancy import Store
from app.serving.engine import Engine
from app.tasks import repository
from hyperserve.types import TaskKind


@dataclass(frozen=True)
class TaskVersionRef:
    """A version of a task, and the revision of the task when it was read."""

    tenant: str
    task: str
    version: str
    number: int
    learner: str
    learner_digest: str
    seed: int
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    revision: int = 1
    """Counts the changes of the task."""
    instead_of: int | None = None
    """Number of the version that it stands for, whose learner was replaced."""
    target: int | None = None
    """Length of a target; None if examples have labels."""

    @classmethod
    def of(cls, task: TaskRow, version: VersionRow) -> TaskVersionRef:
        return cls(
            tenant=version.tenant,
            task=task.id,
            version=version.id,
            number=version.number,
            learner=version.learner,
            learner_digest=version.learner_digest,
            seed=version.seed,
            classes=tuple(version.classes),
            shape=tuple(version.shape),
            target=version.target,
            revision=task.revision,
        )

    @property
    def kind(self) -> TaskKind:
        return "classification" if self.target is None else "regression"

    @property
    def subject(self) -> str:
        return self.task

    @property
    def weight(self) -> int:
        return OWN_WEIGHT + len(self.classes)


class TaskVersionCache(VersionCache[TaskVersionRef]):
    """Versions of tasks, by the id of the task."""

    async def find(self, store: Store, task: str, number: int | None = None) -> TaskVersionRef:
        """Return a version, by default the current one: the cached one, or else what the database has.

        Raises `ProblemError` 404.
        """
        if cached := self.get(store.tenant, task, number):
            return cached
        with self.reading(task) as read:
            async with store.read() as session:
                found = await repository.find_version(session, task, number)
            ref = TaskVersionRef.of(*found)
            self.put(ref, read, number)
        return ref


def task_changed(task: TaskRow) -> Change:
    """Return the change to record after `revision` was raised, in the same transaction."""
    return Change(task.tenant, "task", task.id, (str(task.revision),))


def task_deleted(tenant: str, task: str, versions: Collection[str]) -> Change:
    """Return the change to record if a task is deleted, with its versions of these ids."""
    return Change(tenant, "purge", task, tuple(versions))


class TaskInvalidation:
    """Drops from memory what another process has changed: a listener of `app.db.invalidation_log.ChangeWatcher`."""

    def __init__(self, versions: TaskVersionCache, engine: Engine) -> None:
        self._versions = versions
        self._engine = engine

    async def __call__(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.kind == "task":
                self._versions.drop(change.subject, _revision(change))
            elif change.kind == "purge":
                self._versions.drop(change.subject)
                for version in change.detail:
                    self._engine.evict(version)
            elif change.kind == EVERYTHING:
                self._versions.clear()
                self._engine.clear()


def _revision(change: Change) -> float:
    """Return the revision of a changed task. If the change names none, any cached version is out of date."""
    return int(change.detail[0]) if change.detail else float("inf")
