"""Blobs of streams that nothing names any more."""

from __future__ import annotations

import logging
from collections.abc import Collection

from app.db.blobs import STORE_ERRORS, Blobs
from app.db.engine import Database
from app.db.failures import NO_ANSWER
from app.db.locks import FILES, lock
from app.streams import files, repository

log = logging.getLogger("hyperserve")


async def collect(database: Database, blobs: Blobs, tenant: str, digests: Collection[str]) -> None:
    """Deletes those that no row names, while none can begin to. What cannot be deleted now is left to the clearing
    away that comes every hour."""
    try:
        async with database.write() as session:
            await lock(session, FILES)
            await files.drop(blobs, tenant, await repository.unreferenced(session, tenant, digests))
    except (*NO_ANSWER, *STORE_ERRORS) as error:
        log.warning("blobs of a stream stay for now: %s", getattr(error, "orig", error))
