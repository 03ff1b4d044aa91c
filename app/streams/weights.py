"""Networks and gates of stream versions that are not in memory, made of what is stored: once, by whoever needs them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from app.db.blobs import BlobMissingError, Blobs
from app.db.engine import Database
from app.db.failures import NO_ANSWER
from app.http.problems import ProblemError, fail
from app.serving.cache import Cache, Key
from app.serving.cache_stats import Tiers
from app.streams import files
from app.streams import versions as reading
from app.streams.learners import Built
from app.streams.repository import Part, Stored
from app.streams.versions import StreamHead, key_prefix
from models.continual.storage import from_bytes
from models.protocol import TaskWeights
from models.stream_protocol import StreamVersion
from models.weights import Header

KEPT_BYTES = 512 << 20
"""Of tensors that are kept for the next task that is asked, or the next version."""

Tensors = Mapping[str, Tensor]


class Parts:
    """Least recently used. Belongs to the event loop; each part is read once for all who wait."""

    def __init__(self, capacity: int = KEPT_BYTES) -> None:
        self._left = capacity
        self._kept: OrderedDict[str, Tensors] = OrderedDict()
        self._flights: dict[str, asyncio.Task[Tensors]] = {}

    async def get(self, digest: str, read: Callable[[], Awaitable[bytes]]) -> Tensors:
        """Raises what `read` raises, and `StreamStorageError`."""
        if (found := self._kept.get(digest)) is not None:
            self._kept.move_to_end(digest)
            return found
        flight = self._flights.get(digest)
        if flight is None:
            flight = self._flights[digest] = asyncio.create_task(self._load(digest, read))
        # Shielded: a client that leaves takes only itself away.
        return await asyncio.shield(flight)

    def clear(self) -> None:
        """Forgets all; what is being read is not kept."""
        self._left += sum(map(_size, self._kept.values()))
        self._kept.clear()
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
        self._kept[digest] = tensors
        self._left -= _size(tensors)
        while self._left < 0:
            _, dropped = self._kept.popitem(last=False)
            self._left += _size(dropped)


def _size(tensors: Tensors) -> int:
    return sum(value.nbytes for value in tensors.values())


BUNDLED = "bundled"
"""Tenant of what ships with the code, in keys."""


READ_SECONDS = 60.0
"""After which a part is not waited for: the process is stopping."""


class Owned(Mapping[str, Tensors]):
    """What each stream task owns, read when it is looked at: a network needs that of its own task alone.

    For threads other than the event loop's, and not of its default executor, which may have to read.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        read: Callable[[Part], Coroutine[Any, Any, Tensors]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._parts = parts
        self._read = read
        self._loop = loop

    def __getitem__(self, task: str) -> Tensors:
        return asyncio.run_coroutine_threadsafe(self._read(self._parts[task]), self._loop).result(
            READ_SECONDS
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


class StreamWeights:
    """Raises `ProblemError` 404 of a version that is gone, `BlobMissingError` where a stored part is lost, and
    `StreamStorageError`."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        pool: Executor,
        cache: Cache | None = None,
        tiers: Tiers | None = None,
    ) -> None:
        """`pool` makes weights, and is for nothing else."""
        self._database = database
        self._blobs = blobs
        self._pool = pool
        self._parts = Parts()
        self._cache = cache
        self._tiers = tiers or Tiers()

    async def network(self, head: StreamHead, built: Built, task: str) -> TaskWeights:
        header = Header(head.digest, head.labels[task], seed=0)
        key = _key(head, head.network_key(task))
        return await self._shared(head, key, header, lambda version: built.learner.weights(version, task))

    async def gate(self, head: StreamHead, built: Built) -> TaskWeights:
        header = Header(head.digest, tuple(head.labels), seed=0)
        return await self._shared(head, _key(head, head.gate_key), header, built.learner.gate)

    async def forget(self, tenant: str, versions: Collection[str]) -> None:
        """Versions by id that are gone for good: what other processes may still have of them, and this one."""
        self._parts.clear()
        if self._cache is not None:
            for version in versions:
                await self._cache.delete_all(tenant, key_prefix(version))

    def clear(self) -> None:
        """Of this process, all."""
        self._parts.clear()

    async def _shared(
        self, head: StreamHead, key: Key, header: Header, make: Callable[[StreamVersion], TaskWeights]
    ) -> TaskWeights:
        """From other processes, else made here; never of a version that is gone."""
        shared, known = await asyncio.gather(self._found(key, header), self._known(head))
        if not known:
            raise gone()
        if shared is not None:
            return shared
        weights = await self._made(head, make)
        self._tiers.count("l3", "hit")
        if self._cache is not None:
            self._cache.fill(key, weights, header, partial(self._known, head, untold=False))
        return weights

    async def _found(self, key: Key, header: Header) -> TaskWeights | None:
        return None if self._cache is None else await self._cache.get(key, header)

    async def _known(self, head: StreamHead, *, untold: bool = True) -> bool:
        """`untold` with the database away: what is in memory goes on answering, but nothing is added."""
        if head.bundle is not None:
            return True
        try:
            async with self._database.read() as session:
                return await reading.is_stored(session, head.stored.id)
        except NO_ANSWER:
            return untold

    async def _made(self, head: StreamHead, make: Callable[[StreamVersion], TaskWeights]) -> TaskWeights:
        stored, loop = head.stored, asyncio.get_running_loop()
        try:
            shared = await self._parts.get(stored.blob, lambda: self._read(head, None))
            owned = Owned({part.name: part for part in stored.parts}, partial(self._own, head), loop)
            return await loop.run_in_executor(self._pool, _run, make, stored, shared, owned)
        except BlobMissingError:
            if await self._known(head):
                raise  # Lost, which is no client's fault.
            raise gone() from None

    async def _own(self, head: StreamHead, part: Part) -> Tensors:
        return await self._parts.get(part.blob, lambda: self._read(head, part))

    async def _read(self, head: StreamHead, part: Part | None) -> bytes:
        """What one stream task owns, or what all share."""
        if (bundle := head.bundle) is not None:
            return await asyncio.to_thread(bundle.shared if part is None else partial(bundle.own, part.name))
        blob = head.stored.blob if part is None else part.blob
        return await files.fetch(self._blobs, head.tenant, blob)


def gone() -> ProblemError:
    return fail("stream_version_not_found", "The stream has no such version any more.", "/version")


def _run(
    make: Callable[[StreamVersion], TaskWeights], stored: Stored, shared: Tensors, owned: Owned
) -> TaskWeights:
    # Here and not on the event loop, which has to read what whoever looks at the version needs.
    version = StreamVersion(stored.number, stored.labels, shared, owned)
    # More threads lose badly to any busy neighbour.
    torch.set_num_threads(1)
    with torch.no_grad():
        weights = make(version)
    # A stream draws nothing: the header of shared weights says so.
    return replace(weights, seed=torch.zeros_like(weights.seed))


def _key(head: StreamHead, version: str) -> Key:
    return Key(BUNDLED if head.bundle is not None else head.tenant, head.digest, version)
