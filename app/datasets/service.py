"""Datasets: upload, read, list, delete."""

from __future__ import annotations

import asyncio

from app.core.ids import is_id, new_id
from app.datasets import repository
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.locks import FILES, lock
from app.db.orphans import drop
from app.db.tables import DatasetRow
from app.http.idempotency import UNCLAIMED, Claim, forget
from app.http.pagination import Cursor
from app.http.problems import ProblemError, fail, pointer
from app.http.upload import Spool, Upload
from hyperserve.types import Dataset, Page
from models.data import files
from models.data.errors import DatasetFileError, Format, Summary

MEDIA_TYPES: dict[str, Format | None] = {
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
    "application/x-npz": "npz",
    "text/csv": "csv",
    "application/octet-stream": None,
}
"""None: the format is read from the content."""
LOCATION = "/v1/datasets/{id}"
PAGE_CLASSES = 20_000
"""Class names of a page; it ends early where its items have more."""
_ROWS_AT_ONCE = 5


class DatasetService:
    """Raises `ProblemError`."""

    def __init__(self, database: Database, blobs: Blobs, spool: Spool) -> None:
        self._database = database
        self._blobs = blobs
        self.spool = spool

    async def create(
        self, tenant: str, upload: Upload, name: str | None, claim: Claim = UNCLAIMED
    ) -> Dataset:
        """The file is checked as a whole, then kept; the row comes last."""
        try:
            format, found = await asyncio.to_thread(_inspect, upload)
        except DatasetFileError as error:
            raise _refused(error) from None
        row = DatasetRow(
            id=new_id("ds"),
            tenant=tenant,
            name=name,
            format=format,
            kind=found.kind,
            shape=None if found.shape is None else list(found.shape),
            classes=found.classes,
            bytes=upload.size,
            blob=upload.sha256,
        )
        path = repository.path(tenant, upload.sha256)
        try:
            while not await self._stored(row, path, claim):
                await self._blobs.put_file(path, upload.file)
        except BaseException:
            await self._collect(tenant, upload.sha256)
            raise
        return dataset_answer(row)

    async def get(self, tenant: str, id: str) -> Dataset:
        return dataset_answer(await self._row(tenant, id))

    async def page(self, tenant: str, cursor: Cursor | None, limit: int) -> Page[Dataset]:
        """Newest first. At least one, and then as many as have few classes together."""
        after = None if cursor is None else cursor.after
        items: list[DatasetRow] = []
        classes, more = 0, True
        async with self._database.read() as session:
            while more and len(items) <= limit and classes <= PAGE_CLASSES:
                rows = await repository.listed(session, tenant, after, _ROWS_AT_ONCE)
                more = len(rows) == _ROWS_AT_ONCE
                items += rows
                classes += sum(len(row.classes) for row in rows)
                after = items[-1].id if items else None
        kept = _within(items, limit)
        return _page(items[:kept], more=more or kept < len(items))

    async def delete(self, tenant: str, id: str) -> None:
        """Refused while something is being made of it; what is made needs it no more."""
        async with self._database.write() as session:
            row = await repository.get(session, tenant, id, lock=True) if is_id(id, "ds") else None
            if row is None:
                raise _not_found()
            if await repository.in_use(session, tenant, id):
                raise fail("dataset_in_use", "A job learns from the dataset, or waits to; cancel it first.")
            await repository.remove(session, tenant, id)
            await forget(session, tenant, id)
        await self._collect(tenant, row.blob)

    async def _row(self, tenant: str, id: str) -> DatasetRow:
        async with self._database.read() as session:
            row = await repository.get(session, tenant, id) if is_id(id, "ds") else None
        if row is None:
            raise _not_found()
        return row

    async def _stored(self, row: DatasetRow, path: str, claim: Claim) -> bool:
        """False where the file is not there; another dataset that had it may have been deleted just now."""
        async with self._database.write() as session:
            await lock(session, FILES)
            if not await self._blobs.has_file(path):
                return False
            await repository.add(session, row)
            headers = {"Location": LOCATION.format(id=row.id)}
            await claim.keep(session, 201, dataset_answer(row), headers, row.id)
        return True

    async def _collect(self, tenant: str, sha256: str) -> None:
        path = repository.path(tenant, sha256)
        await drop(
            self._database,
            lambda session: repository.refers(session, tenant, sha256),
            lambda: self._blobs.delete_files([path]),
        )


def dataset_answer(row: DatasetRow) -> Dataset:
    counts = {"examples": sum(row.classes.values())}
    names = ("id", "name", "format", "kind", "shape", "classes", "bytes", "created_at")
    return Dataset.model_validate({name: getattr(row, name) for name in names} | counts)


def _inspect(upload: Upload) -> tuple[Format, Summary]:
    format = MEDIA_TYPES[upload.media_type] or files.sniff(upload.file)
    return format, files.inspect(upload.file, format)


def _within(rows: list[DatasetRow], limit: int) -> int:
    """How many of the rows make a page."""
    classes = 0
    for index, row in enumerate(rows[:limit]):
        classes += len(row.classes)
        if index and classes > PAGE_CLASSES:
            return index
    return min(limit, len(rows))


def _page(rows: list[DatasetRow], *, more: bool) -> Page[Dataset]:
    cursor = Cursor(rows[-1].id).encode() if rows and more else None
    return Page[Dataset](items=[dataset_answer(row) for row in rows], next_cursor=cursor)


def _refused(error: DatasetFileError) -> ProblemError:
    where = "" if error.where is None else pointer((error.where,))
    return fail(error.code, f"{error}", where, error.limit)


def _not_found() -> ProblemError:
    return fail("dataset_not_found", "There is no such dataset.")
