"""What a process drops from its memory when it hears of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.db.invalidation_log import EVERYTHING, Change
from app.db.tables import StreamRow
from app.serving.engine import Engine
from app.streams.versions import StreamHeads, key_prefix, subject
from app.streams.weights import StreamWeights

KIND = "stream"


def changed(stream: StreamRow, purged: Iterable[str] = ()) -> Change:
    """Another version is current, or stream tasks stand otherwise: its revision, which was raised in the same
    transaction, then the ids of versions that are gone for good."""
    return Change(stream.tenant, KIND, stream.name, (str(stream.revision), *purged))


def deleted(stream: StreamRow, purged: Iterable[str]) -> Change:
    """The stream is gone, with its versions of these ids. A new one of its name has revisions of its own."""
    return Change(stream.tenant, KIND, stream.name, ("deleted", *purged))


DELETED = "deleted"


class StreamInvalidation:
    """A listener of `app.db.invalidation_log.Watcher`. Keys in the arena go with everything at `EVERYTHING`, which
    `app.tasks.cache.Invalidation` sees to."""

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
