"""The rows of streams: their stream tasks, their versions, and what each stream task has in a version."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, delete, exists, func, select

from app.db.blob_collector import BlobFolder
from app.db.tables import JobRow, StreamPartRow, StreamRow, StreamTaskRow, StreamVersionRow
from app.db.tenancy import TenantSession
from app.jobs.repository import ACTIVE

FOLDER = "streams"
"""Folder of the blob store that holds their versions and held-out examples, each part under its digest."""
_CHUNK = 500
StreamTaskState = Literal["registering", "ready", "failed", "forgetting", "forgotten", "rolled_back"]
_LOST = {"code": "job_failed", "detail": "The job that registered it has ended without a version."}
_CANCELLED = {"code": "cancelled", "detail": "The job that registered it was cancelled."}


@dataclass(frozen=True)
class StreamTaskRecord:
    """A stream task with the state of its newest job. It has failed if that job ended without success."""

    row: StreamTaskRow
    job_state: str | None
    """None if the job has been deleted."""
    job_error: dict[str, Any] | None
    part: StreamPartRow | None
    """Its part in the current version; None if that version does not hold it."""

    @property
    def current(self) -> bool:
        return self.part is not None

    @property
    def state(self) -> StreamTaskState:
        active = self.job_state in ACTIVE
        if self.row.state == "forgotten":
            return "forgotten"
        if self.row.state == "registering":
            return "registering" if active else "failed"
        if active:
            return "forgetting"
        return "ready" if self.current else "rolled_back"

    @property
    def error(self) -> dict[str, Any] | None:
        if self.state == "failed":
            return self.job_error or (_CANCELLED if self.job_state == "cancelled" else _LOST)
        # A job that should have forgotten it has failed.
        return self.job_error if self.state in ("ready", "rolled_back") else None

    @property
    def reserves_name(self) -> bool:
        """Return True if no other stream task may be registered under its name."""
        return self.state not in ("failed", "rolled_back")


@dataclass(frozen=True)
class StreamPart:
    """One stream task in a version."""

    task_id: str
    name: str
    labels: tuple[str, ...]
    blob: str


@dataclass(frozen=True)
class StoredStreamVersion:
    """A version as rows: its stream tasks, and the digests of its parts."""

    id: str
    number: int
    blob: str
    """Digest of the tensors that its stream tasks share."""
    parts: tuple[StreamPart, ...]

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Labels by stream task, in the order of registration."""
        return {part.name: part.labels for part in self.parts}

    @property
    def blobs(self) -> frozenset[str]:
        return frozenset((self.blob, *(part.blob for part in self.parts)))


async def add(session: TenantSession, *rows: StreamRow | StreamTaskRow | StreamVersionRow) -> None:
    session.add_all(rows)
    await session.flush()


async def get(session: TenantSession, name: str, *, lock: bool = False) -> StreamRow | None:
    """With `lock` the stream stays as it is until the transaction ends; enqueuing a job in its lane needs that."""
    query = select(StreamRow).where(StreamRow.name == name)
    return (await session.scalars(_locked(query) if lock else query)).one_or_none()


async def get_by_id(session: TenantSession, id: str, *, lock: bool = False) -> StreamRow | None:
    """Load a stream for a job: another stream may have taken the name since."""
    query = select(StreamRow).where(StreamRow.id == id)
    return (await session.scalars(_locked(query) if lock else query)).one_or_none()


def _locked(query: Select[StreamRow]) -> Select[StreamRow]:
    """Read the row anew once it is locked, even if the session has read it before."""
    return query.with_for_update().execution_options(populate_existing=True)


async def listed(session: TenantSession, after: str | None, limit: int) -> list[StreamRow]:
    """Return streams in the order of names, as Python sorts them, beginning after the name `after`."""
    # Databases with the collation of a language ignore hyphens.
    name = StreamRow.name.collate("C" if session.get_bind().dialect.name == "postgresql" else "BINARY")
    query = select(StreamRow).order_by(name).limit(limit)
    return list(await session.scalars(query if after is None else query.where(name > after)))


async def sizes(session: TenantSession, streams: Collection[str]) -> dict[str, int]:
    """Return the number of stream tasks in the current version, by the id of the stream."""
    query = (
        select(StreamRow.id, func.count().label("size"))
        .join(StreamVersionRow, _current())
        .join(StreamPartRow, StreamPartRow.version_id == StreamVersionRow.id)
        .where(StreamRow.id.in_(streams))
        .group_by(StreamRow.id)
    )
    return {row.id: row.size for row in await session.execute(query)}


async def version(
    session: TenantSession, stream: StreamRow, number: int | None = None
) -> StoredStreamVersion | None:
    """Return the version with this number, or the current one; None if it does not exist."""
    number = stream.current if number is None else number
    if number is None:
        return None
    found = (StreamVersionRow.stream_id == stream.id, StreamVersionRow.number == number)
    row = (await session.scalars(select(StreamVersionRow).where(*found))).one_or_none()
    if row is None:
        return None
    held = (await parts(session, [row.id])).get(row.id, ())
    return StoredStreamVersion(row.id, row.number, row.blob, tuple(held))


async def has_version(session: TenantSession, id: str) -> bool:
    return bool(await session.scalar(select(exists().where(StreamVersionRow.id == id))))


async def parts(session: TenantSession, versions: Collection[str]) -> dict[str, list[StreamPart]]:
    """Return the parts of versions, by the id of the version, in the order of registration."""
    query = (
        select(StreamPartRow.version_id, StreamPartRow.blob, StreamTaskRow)
        .join(StreamTaskRow, StreamTaskRow.id == StreamPartRow.task_id)
        .where(StreamPartRow.version_id.in_(versions))
        .order_by(StreamPartRow.position)
    )
    found: dict[str, list[StreamPart]] = {}
    for id, blob, task in await session.execute(query):
        found.setdefault(id, []).append(StreamPart(task.id, task.name, tuple(task.labels), blob))
    return found


async def versions(
    session: TenantSession, stream: str, before: int | None, limit: int
) -> list[StreamVersionRow]:
    """Return versions, newest first, beginning after the number `before`."""
    query = select(StreamVersionRow).where(StreamVersionRow.stream_id == stream)
    query = query.order_by(StreamVersionRow.number.desc()).limit(limit)
    return list(
        await session.scalars(query if before is None else query.where(StreamVersionRow.number < before))
    )


async def version_ids(session: TenantSession, stream: str) -> list[str]:
    query = select(StreamVersionRow.id).where(StreamVersionRow.stream_id == stream)
    return list(await session.scalars(query))


async def versions_holding(session: TenantSession, tasks: Collection[str]) -> list[str]:
    """Return the ids of the versions that hold one of the stream tasks."""
    held = exists().where(StreamPartRow.version_id == StreamVersionRow.id, StreamPartRow.task_id.in_(tasks))
    return list(await session.scalars(select(StreamVersionRow.id).where(held)))


async def remove_versions(session: TenantSession, versions: Collection[str]) -> set[str]:
    """Delete versions by id. Return the digests of their parts, which other versions may share."""
    shared = select(StreamVersionRow.blob).where(StreamVersionRow.id.in_(versions))
    parts = select(StreamPartRow.blob).where(StreamPartRow.version_id.in_(versions)).distinct()
    blobs = {*await session.scalars(shared), *await session.scalars(parts)}
    await session.execute(delete(StreamVersionRow).where(StreamVersionRow.id.in_(versions)))
    return blobs


async def tasks(session: TenantSession, stream: str) -> list[StreamTaskRecord]:
    """Return all stream tasks of a stream, in the order in which their registration was requested."""
    query = _tasks().where(StreamTaskRow.stream_id == stream).order_by(StreamTaskRow.id)
    return [StreamTaskRecord(*row) for row in await session.execute(query)]


async def tasks_named(session: TenantSession, stream: str, name: str) -> list[StreamTaskRecord]:
    """Return the stream tasks of a name. The name means the first of them: the current one, else the newest."""
    found = (StreamTaskRow.stream_id == stream, StreamTaskRow.name == name)
    query = _tasks().where(*found).order_by(StreamTaskRow.id.desc())
    records = [StreamTaskRecord(*row) for row in await session.execute(query)]
    return sorted(records, key=lambda record: not record.current)


async def all_blobs(session: TenantSession, stream: str) -> set[str]:
    """Return the digests of the parts of all versions of a stream, and of its held-out examples."""
    ids = select(StreamVersionRow.id).where(StreamVersionRow.stream_id == stream)
    queries: Sequence[Select[str | None]] = (
        select(StreamVersionRow.blob).where(StreamVersionRow.stream_id == stream),
        select(StreamPartRow.blob).where(StreamPartRow.version_id.in_(ids)).distinct(),
        select(StreamTaskRow.held_out_blob).where(StreamTaskRow.stream_id == stream),
    )
    found = {blob for query in queries for blob in await session.scalars(query)}
    return {blob for blob in found if blob is not None}


async def unreferenced(session: TenantSession, digests: Collection[str]) -> set[str]:
    """Return the digests that no version and no stream task has."""
    listed, left = sorted(digests), set(digests)
    for start in range(0, len(listed), _CHUNK):
        chunk = listed[start : start + _CHUNK]
        for column in (StreamVersionRow.blob, StreamPartRow.blob, StreamTaskRow.held_out_blob):
            left -= set(await session.scalars(select(column).where(column.in_(chunk)).distinct()))
    return left


PARTS = BlobFolder(FOLDER, unreferenced)


def _current() -> ColumnElement[bool]:
    return (StreamVersionRow.stream_id == StreamRow.id) & (StreamVersionRow.number == StreamRow.current)


def _tasks() -> Select[StreamTaskRow, str | None, dict[str, Any] | None, StreamPartRow | None]:
    held = (StreamPartRow.version_id == StreamVersionRow.id) & (StreamPartRow.task_id == StreamTaskRow.id)
    return (
        select(StreamTaskRow, JobRow.state, JobRow.error, StreamPartRow)
        .join(StreamRow, StreamRow.id == StreamTaskRow.stream_id)
        .outerjoin(StreamVersionRow, _current())
        .outerjoin(StreamPartRow, held)
        .outerjoin(JobRow, JobRow.id == StreamTaskRow.job_id)
    )
