"""Versions of streams and held-out examples in the blob store, each part under a digest of its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from app.db.blobs import Blobs, digest
from app.streams import repository
from app.streams.repository import Stored
from models.continual.storage import StreamStorageError, assemble
from models.stream_protocol import StreamVersion


async def fetch(blobs: Blobs, tenant: str, name: str) -> bytes:
    """Raises `BlobMissingError`; `StreamStorageError` where the bytes are not those of the digest."""
    data = await blobs.get_file(repository.path(tenant, name))
    if digest(data) != name:
        raise StreamStorageError("a stored part of the stream is damaged")
    return data


async def load(blobs: Blobs, stored: Stored) -> StreamVersion:
    """Raises `BlobMissingError`, `StreamStorageError`."""
    shared = await fetch(blobs, stored.tenant, stored.blob)
    own = {part.name: await fetch(blobs, stored.tenant, part.blob) for part in stored.parts}
    return await asyncio.to_thread(assemble, stored.number, stored.labels, shared, own)


async def keep(blobs: Blobs, tenant: str, parts: Mapping[str, bytes]) -> None:
    """Writes what is not there, by digest; all of it is durable then."""
    await blobs.put_files({repository.path(tenant, name): data for name, data in parts.items()})


async def drop(blobs: Blobs, tenant: str, names: Collection[str]) -> None:
    await blobs.delete_files([repository.path(tenant, name) for name in names])
