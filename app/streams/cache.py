"""The caches of versions and tensors in a process, and their invalidation by changes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from app.core.version_cache import VersionCache
from app.db.invalidation_log import EVERYTHING, Change
from app.db.tables import StreamRow
from app.serving.engine import Engine
from app.serving.shared_cache import SharedCache
from app.streams.versions import StreamVersionRef, key_prefix, subject
from models.continual.storage import from_bytes

KIND = "stream"
DELETED = "deleted"
TENSOR_BYTES = 512 << 20
"""Capacity for tensors that the next stream task or the next version may need again."""

Tensors = Mapping[str, Tensor]


class StreamVersionCache(VersionCache[StreamVersionRef]):
    """Versions of streams, by `app.streams.versions.subject`."""


class TensorCache:
    """The least recently used parts of versions, by digest. Belongs to the event loop.

    Each part is read once, however many wait for it.
    """

    def __init__(self, capacity: int = TENSOR_BYTES) -> None:
        self._left = capacity
        self._parts: OrderedDict[str, Tensors] = OrderedDict()
        self._flights: dict[str, asyncio.Task[Tensors]] = {}

    async def get(self, digest: str, read: Callable[[], Awaitable[bytes]]) -> Tensors:
        """Raises what `read` raises, and `StreamStorageError`."""
        if (found := self._parts.get(digest)) is not None:
            self._parts.move_to_end(digest)
            return found
        flight = self._flights.get(digest)
        if flight is None:
            flight = self._flights[digest] = asyncio.create_task(self._load(digest, read))
        # Shielded: a client that disconnects cancels only its own wait.
        return await asyncio.shield(flight)

    def clear(self) -> None:
        """Drop everything. Parts that are being read are not stored."""
        self._left += sum(map(_size, self._parts.values()))
        self._parts.clear()
        self._flights.clear()

    async def _load(self, digest: str, read: Callable[[], Awaitable[bytes]]) -> Tensors:
        flight = asyncio.current_task()
        try:
            tensors = await asyncio.to_thread(from_bytes, await read())
            if self._flights.get(digest) is flight:
                self._put(digest, tensors)
            return tensors
        finally:
            if self._flights.get(digest) is flight:
                del self._flights[digest]

    def _put(self, digest: str, tensors: Tensors) -> None:
        self._parts[digest] = tensors
        self._left -= _size(tensors)
        while self._left < 0:
            _, dropped = self._parts.popitem(last=False)
            self._left += _size(dropped)


def _size(tensors: Tensors) -> int:
    return sum(value.nbytes for value in tensors.values())


def changed(stream: StreamRow, purged: Iterable[str] = ()) -> Change:
    """Return the change of a stream whose current version, or whose stream tasks, are different now.

    Its detail is the revision, which the same transaction raises, then the ids of versions that are deleted.
    """
    return Change(stream.tenant, KIND, stream.name, (str(stream.revision), *purged))


def deleted(stream: StreamRow, purged: Iterable[str]) -> Change:
    """Return the change of a stream that is deleted with these versions.

    The revisions of a new stream of the same name begin anew.
    """
    return Change(stream.tenant, KIND, stream.name, (DELETED, *purged))


@dataclass(frozen=True)
class StreamInvalidation:
    """A listener of `app.db.invalidation_log.ChangeWatcher`.

    At `EVERYTHING` the weights in the engine are dropped by the listener of tasks.
    """

    versions: StreamVersionCache
    tensors: TensorCache
    engine: Engine
    cache: SharedCache | None
    """Weights that processes share; None without Redis."""

    async def __call__(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.kind == KIND:
                await self.apply(change)
            elif change.kind == EVERYTHING:
                self.versions.clear()
                self.tensors.clear()

    async def apply(self, change: Change) -> None:
        revision, *purged = change.detail or (DELETED,)
        stream = subject(change.tenant, change.subject)
        if purged:
            # Versions that were requested by number may be among the deleted ones.
            self.versions.drop(stream)
        self.versions.drop(stream, float("inf") if revision == DELETED else int(revision))
        for version in purged:
            self.engine.evict_all(key_prefix(version))
        if purged:
            self.tensors.clear()
            if self.cache is not None:
                for version in purged:
                    await self.cache.delete_all(change.tenant, key_prefix(version))
