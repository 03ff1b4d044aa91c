"""Versions of streams and held-out examples in the blob store, each part under a digest of its bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping

from app.db.blobs import STORE_ERRORS, Blobs, digest
from app.db.engine import Database
from app.db.failures import NO_ANSWER
from app.db.locks import FILES, lock
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


log = logging.getLogger("hyperserve")


async def collect(database: Database, blobs: Blobs, tenant: str, digests: Collection[str]) -> None:
    """Deletes those that no row names, while none can begin to. What cannot be deleted now is left to the clearing
    away that comes every hour."""
    try:
        async with database.write() as session:
            await lock(session, FILES)
            await drop(blobs, tenant, await repository.unreferenced(session, tenant, digests))
    except (*NO_ANSWER, *STORE_ERRORS) as error:
        log.warning("blobs of a stream stay for now: %s", getattr(error, "orig", error))
