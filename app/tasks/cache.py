"""What a warm predict must know of a task, or of a stream, kept in the process so that it needs no database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.core.version_cache import OWN_WEIGHT, Memory
from app.db.invalidation_log import EVERYTHING, Change
from app.db.tables import TaskRow
from app.serving.engine import Engine
from hyperserve.types import TaskKind


@dataclass(frozen=True)
class Head:
    """A version of a task, and where the task stood when it was read."""

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
    """Length of a target; None where examples have labels."""

    @property
    def kind(self) -> TaskKind:
        return "classification" if self.target is None else "regression"

    @property
    def subject(self) -> str:
        return self.task

    @property
    def weight(self) -> int:
        return OWN_WEIGHT + len(self.classes)


class Heads(Memory[Head]):
    """Of tasks, by their ids."""


def changed(task: TaskRow) -> Change:
    """Another version is current, or another name; after `revision` was raised, in the same transaction."""
    return Change(task.tenant, "task", task.id, (str(task.revision),))


def purged(tenant: str, task: str, versions: Collection[str]) -> Change:
    """The task is gone, with its versions of these ids."""
    return Change(tenant, "purge", task, tuple(versions))


class Invalidation:
    """A listener of `app.db.invalidation_log.Watcher`."""

    def __init__(self, heads: Heads, engine: Engine) -> None:
        self._heads = heads
        self._engine = engine

    async def __call__(self, news: Sequence[Change]) -> None:
        for change in news:
            if change.kind == "task":
                self._heads.drop(change.subject, _revision(change))
            elif change.kind == "purge":
                self._heads.drop(change.subject)
                for version in change.detail:
                    self._engine.evict(version)
            elif change.kind == EVERYTHING:
                self._heads.clear()
                self._engine.clear()


def _revision(change: Change) -> float:
    """Without one, any head is out of date."""
    return int(change.detail[0]) if change.detail else float("inf")
