"""Datasets: upload, read, list, delete."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from app.core.ids import is_id, new_id
from app.datasets import repository
from app.datasets.resources import DatasetResources
from app.db.tables import DatasetRow
from app.db.tenancy import Store
from app.http.fields import PageOptions
from app.http.idempotency import UNCLAIMED, Claim, forget
from app.http.pagination import Cursor
from app.http.problems import ProblemError, fail, pointer
from app.http.upload import ReceivedFile
from hyperserve.types import Dataset, Page
from models.data import files
from models.data.errors import READ_DEFAULTS, DatasetFileError, Format, ReadOptions, Summary

MEDIA_TYPES: dict[str, Format | None] = {
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
    "application/x-npz": "npz",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/vnd.ms-excel": "csv",
    "application/octet-stream": None,
}
"""None: the format is read from the content. Browsers with Excel send a CSV as vnd.ms-excel."""
LOCATION = "/v1/datasets/{id}"
PAGE_CLASSES = 20_000
"""Class names of a page; it ends early if its items have more."""
_ROWS_AT_ONCE = 5


@dataclass(frozen=True)
class DatasetService:
    """Raises `ProblemError`."""

    resources: DatasetResources
    store: Store

    async def create(
        self,
        upload: ReceivedFile,
        name: str | None,
        claim: Claim = UNCLAIMED,
        options: ReadOptions = READ_DEFAULTS,
    ) -> Dataset:
        """Check the file as a whole, then store it; the row comes last."""
        try:
            format, summary = await asyncio.to_thread(_inspect, upload, options)
        except DatasetFileError as error:
            raise _refused(error) from None
        row = DatasetRow(
            id=new_id("ds"),
            name=name,
            format=format,
            kind=summary.kind,
            shape=None if summary.shape is None else list(summary.shape),
            classes=summary.classes,
            options=options.changed() or None,
            report=_report(summary),
            bytes=upload.size,
            blob=upload.sha256,
        )
        try:
            while not await self._added(row, claim):
                await self.store.files(repository.FOLDER).put(upload.sha256, upload.file)
        except BaseException:
            await self._collect(upload.sha256)
            raise
        return dataset_answer(row)

    async def get(self, id: str) -> Dataset:
        async with self.store.read() as session:
            row = await repository.get(session, id) if is_id(id, "ds") else None
        if row is None:
            raise _not_found()
        return dataset_answer(row)

    async def page(self, options: PageOptions) -> Page[Dataset]:
        """Newest first: at least one dataset, then as many as have few classes together."""
        after = None if options.cursor is None else Cursor.decode(options.cursor, "ds").after
        rows: list[DatasetRow] = []
        classes, more = 0, True
        async with self.store.read() as session:
            while more and len(rows) <= options.limit and classes <= PAGE_CLASSES:
                found = await repository.listed(session, after, _ROWS_AT_ONCE)
                more = len(found) == _ROWS_AT_ONCE
                rows += found
                classes += sum(len(row.classes) for row in found)
                after = rows[-1].id if rows else None
        length = _page_length(rows, options.limit)
        return _page(rows[:length], more=more or length < len(rows))

    async def delete(self, id: str) -> None:
        """Refused while something is made of the dataset; what has been made does not need it."""
        async with self.store.write() as session:
            row = await repository.get(session, id, lock=True) if is_id(id, "ds") else None
            if row is None:
                raise _not_found()
            if await repository.in_use(session, id):
                detail = "A queued or running job uses the dataset; cancel the job first."
                raise fail("dataset_in_use", detail)
            await repository.remove(session, id)
            await forget(session, id)
        await self._collect(row.blob)

    async def _added(self, row: DatasetRow, claim: Claim) -> bool:
        """False if the file is missing: another dataset that had it may have been deleted just now."""
        async with self.resources.collector.naming(self.store) as session:
            if not await self.store.files(repository.FOLDER).has(row.blob):
                return False
            await repository.add(session, row)
            headers = {"Location": LOCATION.format(id=row.id)}
            await claim.keep(session, 201, dataset_answer(row), headers, row.id)
        return True

    async def _collect(self, sha256: str) -> None:
        await self.resources.collector.collect(self.store.tenant, repository.FILES, [sha256])


def dataset_answer(row: DatasetRow) -> Dataset:
    counts = {"examples": sum(row.classes.values())}
    names = ("id", "name", "format", "kind", "shape", "classes", "bytes", "created_at")
    return Dataset.model_validate({name: getattr(row, name) for name in names} | counts | (row.report or {}))


def _report(summary: Summary) -> dict[str, Any] | None:
    warnings = [asdict(warning) for warning in summary.warnings]
    reading = None if summary.reading is None else asdict(summary.reading)
    return {name: value for name, value in (("warnings", warnings), ("reading", reading)) if value} or None


def _inspect(upload: ReceivedFile, options: ReadOptions) -> tuple[Format, Summary]:
    format = MEDIA_TYPES[upload.media_type] or files.sniff(upload.file)
    return format, files.inspect(upload.file, format, options)


def _page_length(rows: list[DatasetRow], limit: int) -> int:
    """Return how many of the rows make a page."""
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
