"""Blobs first, rows last: what is committed has its inputs, and what fails leaves nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.tables import VersionRow
from app.tasks.garbage import BUSY, Collector
from app.tasks.weights import Restorer

T = TypeVar("T")


class Writer:
    """Writes inputs, features and rows."""

    def __init__(self, database: Database, blobs: Blobs, garbage: Collector, restorer: Restorer) -> None:
        self._database = database
        self._blobs = blobs
        self._garbage = garbage
        self._restorer = restorer

    async def version(
        self,
        version: VersionRow,
        blobs: Mapping[str, bytes],
        features: npt.NDArray[np.float32] | None,
        rows: Callable[[AsyncSession], Awaitable[T]],
    ) -> T:
        """A version with its features, where they are at hand; `rows` are written in one transaction.

        Raises what they raise.
        """
        pair = version.learner_digest, version.id
        try:
            if features is not None:
                await self._restorer.keep_features(*pair, features)
            return await self.inputs(version.tenant, blobs, rows)
        except BaseException:
            await self._blobs.delete_features([pair])
            raise

    async def inputs(
        self, tenant: str, blobs: Mapping[str, bytes], rows: Callable[[AsyncSession], Awaitable[T]]
    ) -> T:
        """Blobs by digest, and rows that name them."""
        holds = self._garbage.holds
        try:
            async with holds.adding():
                await self._blobs.put_missing(tenant, blobs)
                async with self._database.write() as session:
                    await holds.lock(session, adding=True)
                    if not holds.by_file:
                        # Until this lock someone may have deleted a blob together with its last example.
                        await self._blobs.put_missing(tenant, blobs, again=True)
                    return await rows(session)
        except BaseException as error:
            # A database too busy to commit is too busy to say which blobs are others' as well.
            if isinstance(error, BUSY):
                self._garbage.later(tenant, blobs)
            else:
                await self._garbage.collect(tenant, blobs)
            raise
