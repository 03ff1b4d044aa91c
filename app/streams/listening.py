"""What a process drops from its memory when it hears of a stream."""

from __future__ import annotations

from collections.abc import Sequence

from app.db.changes import EVERYTHING, Change
from app.serving.engine import Engine
from app.streams.heads import StreamHeads, key_prefix, subject
from app.streams.news import KIND
from app.streams.weights import StreamWeights

DELETED = "deleted"


class StreamInvalidation:
    """A listener of `app.db.changes.Watcher`. Keys in the arena go with everything at `EVERYTHING`, which
    `app.tasks.news.Invalidation` sees to."""

    def __init__(self, heads: StreamHeads, weights: StreamWeights, engine: Engine) -> None:
        self._heads = heads
        self._weights = weights
        self._engine = engine

    async def __call__(self, news: Sequence[Change]) -> None:
        for change in news:
            if change.kind == KIND:
                await self.heard(change)
            elif change.kind == EVERYTHING:
                self._heads.clear()
                self._weights.clear()

    async def heard(self, change: Change) -> None:
        revision, *purged = change.detail or (DELETED,)
        where = subject(change.tenant, change.subject)
        # What was asked by number may be gone as well, so nothing of the stream stays.
        if purged:
            self._heads.drop(where)
        self._heads.drop(where, float("inf") if revision == DELETED else int(revision))
        for version in purged:
            self._engine.evict_all(key_prefix(version))
        if purged:
            await self._weights.forget(change.tenant, purged)
