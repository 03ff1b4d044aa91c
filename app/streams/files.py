"""The parts of stream versions and held-out examples in the blob store, each under the digest of its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from app.db.blobs import Files, digest
from app.streams.repository import StoredStreamVersion
from models.continual.storage import StreamStorageError, assemble
from models.stream_protocol import StreamVersion


async def fetch(files: Files, name: str) -> bytes:
    """Return the part with this digest. Raises `BlobMissingError`; `StreamStorageError` if it is damaged."""
    data = await files.get(name)
    if digest(data) != name:
        raise StreamStorageError("a stored part of the stream is damaged")
    return data


async def load(files: Files, stored: StoredStreamVersion) -> StreamVersion:
    """Raises `BlobMissingError`, `StreamStorageError`."""
    shared = await fetch(files, stored.blob)
    parts = {part.name: await fetch(files, part.blob) for part in stored.parts}
    return await asyncio.to_thread(assemble, stored.number, stored.labels, shared, parts)


async def keep(files: Files, parts: Mapping[str, bytes]) -> None:
    """Write the parts, by digest, that are missing. All of them are durable afterwards."""
    await files.put_all(parts)
