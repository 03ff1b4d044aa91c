"""What processes tell each other of tasks, and what each then drops from its memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from app.db.changes import EVERYTHING, Change
from app.db.tables import TaskRow
from app.serving.engine import Engine
from app.tasks.heads import Heads


def changed(task: TaskRow) -> Change:
    """Another version is current, or another name; after `revision` was raised, in the same transaction."""
    return Change(task.tenant, "task", task.id, (str(task.revision),))


def purged(tenant: str, task: str, versions: Collection[str]) -> Change:
    """The task is gone, with its versions of these ids."""
    return Change(tenant, "purge", task, tuple(versions))


class Invalidation:
    """A listener of `app.db.changes.Watcher`."""

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
