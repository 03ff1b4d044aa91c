"""Tensors of versions, kept in the process by the digests of their bytes: versions have most of them in common."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

from torch import Tensor

from models.continual.storage import from_bytes

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
