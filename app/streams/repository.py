"""Streams, their stream tasks and versions in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import JobRow, StreamPartRow, StreamRow, StreamTaskRow, StreamVersionRow
from app.jobs.repository import ACTIVE

PREFIX = "streams/"
_CHUNK = 500
TaskState = Literal["registering", "ready", "failed", "forgetting", "forgotten", "rolled_back"]
_LOST = {"code": "job_failed", "detail": "The job that registered it has ended without a version."}
_CANCELLED = {"code": "cancelled", "detail": "The job that registered it was cancelled."}


@dataclass(frozen=True)
class TaskFound:
    """A stream task with the state of its newest job: one whose job ended in any way but success has failed."""

    row: StreamTaskRow
    job_state: str | None
    """None when the job is forgotten."""
    failure: dict[str, Any] | None
    part: StreamPartRow | None
    """In the version that answers; None where that does not hold it."""

    @property
    def current(self) -> bool:
        return self.part is not None

    @property
    def state(self) -> TaskState:
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
            return self.failure or (_CANCELLED if self.job_state == "cancelled" else _LOST)
        # It was asked to be forgotten, and is not.
        return self.failure if self.state in ("ready", "rolled_back") else None

    @property
    def keeps_name(self) -> bool:
        """Whether no other stream task may be registered under its name."""
        return self.state not in ("failed", "rolled_back")


@dataclass(frozen=True)
class Part:
    """What one stream task owns in a version."""

    task_id: str
    name: str
    labels: tuple[str, ...]
    blob: str


@dataclass(frozen=True)
class Stored:
    """A version as rows: where its bytes are, and what they are of."""

    id: str
    tenant: str
    number: int
    blob: str
    """Of what its stream tasks share."""
    parts: tuple[Part, ...]

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """Of each stream task, in the order of registration."""
        return {part.name: part.labels for part in self.parts}

    @property
    def blobs(self) -> frozenset[str]:
        return frozenset((self.blob, *(part.blob for part in self.parts)))


def path(tenant: str, digest: str) -> str:
    """Of a part of a version, or of held-out examples, in the blob store."""
    return f"{PREFIX}{tenant}/{digest}"


async def add(session: AsyncSession, *rows: StreamRow | StreamTaskRow | StreamVersionRow) -> None:
    session.add_all(rows)
    await session.flush()


async def get(session: AsyncSession, tenant: str, name: str, *, lock: bool = False) -> StreamRow | None:
    """With `lock` it stays as it is until the transaction ends: who asks for a job of its lane holds it."""
    query = select(StreamRow).where(StreamRow.tenant == tenant, StreamRow.name == name)
    return (await session.scalars(_locked(query) if lock else query)).one_or_none()


async def lock_id(session: AsyncSession, tenant: str, id: str) -> StreamRow | None:
    """As `get` with `lock`, for a job, which knows the id: another stream may have the name by now."""
    query = select(StreamRow).where(StreamRow.tenant == tenant, StreamRow.id == id)
    return (await session.scalars(_locked(query))).one_or_none()


def _locked(query: Select[StreamRow]) -> Select[StreamRow]:
    """As it is when the lock is there, whatever the session has read before."""
    return query.with_for_update().execution_options(populate_existing=True)


async def listed(session: AsyncSession, tenant: str, after: str | None, limit: int) -> list[StreamRow]:
    """In the order of names, as Python has it, starting after the name `after`."""
    # A database of some language sorts hyphens as if they were not there.
    name = StreamRow.name.collate("C" if session.get_bind().dialect.name == "postgresql" else "BINARY")
    query = select(StreamRow).where(StreamRow.tenant == tenant).order_by(name).limit(limit)
    return list(await session.scalars(query if after is None else query.where(name > after)))


async def sizes(session: AsyncSession, streams: Collection[str]) -> dict[str, int]:
    """Of streams by id, how many stream tasks the current version holds."""
    query = (
        select(StreamRow.id, func.count().label("size"))
        .join(StreamVersionRow, _current())
        .join(StreamPartRow, StreamPartRow.version_id == StreamVersionRow.id)
        .where(StreamRow.id.in_(streams))
        .group_by(StreamRow.id)
    )
    return {row.id: row.size for row in await session.execute(query)}


async def version(session: AsyncSession, stream: StreamRow, number: int | None = None) -> Stored | None:
    """The version of a number, or the current one; None where there is none."""
    wanted = stream.current if number is None else number
    if wanted is None:
        return None
    mine = (StreamVersionRow.stream_id == stream.id, StreamVersionRow.number == wanted)
    row = (await session.scalars(select(StreamVersionRow).where(*mine))).one_or_none()
    if row is None:
        return None
    held = (await parts(session, [row.id])).get(row.id, ())
    return Stored(row.id, row.tenant, row.number, row.blob, tuple(held))


async def parts(session: AsyncSession, versions: Collection[str]) -> dict[str, list[Part]]:
    """Of versions by id, what each of their stream tasks owns, in the order of registration."""
    query = (
        select(StreamPartRow.version_id, StreamPartRow.blob, StreamTaskRow)
        .join(StreamTaskRow, StreamTaskRow.id == StreamPartRow.task_id)
        .where(StreamPartRow.version_id.in_(versions))
        .order_by(StreamPartRow.position)
    )
    found: dict[str, list[Part]] = {}
    for id, blob, task in await session.execute(query):
        found.setdefault(id, []).append(Part(task.id, task.name, tuple(task.labels), blob))
    return found


async def versions(
    session: AsyncSession, stream: str, before: int | None, limit: int
) -> list[StreamVersionRow]:
    """Newest first, starting after the version of number `before`."""
    query = select(StreamVersionRow).where(StreamVersionRow.stream_id == stream)
    query = query.order_by(StreamVersionRow.number.desc()).limit(limit)
    return list(
        await session.scalars(query if before is None else query.where(StreamVersionRow.number < before))
    )


async def holding(session: AsyncSession, tasks: Collection[str]) -> list[StreamVersionRow]:
    """Versions that hold one of the stream tasks."""
    held = exists().where(StreamPartRow.version_id == StreamVersionRow.id, StreamPartRow.task_id.in_(tasks))
    return list(await session.scalars(select(StreamVersionRow).where(held)))


async def tasks(session: AsyncSession, stream: str) -> list[TaskFound]:
    """All of a stream, in the order in which they were asked for."""
    query = _tasks().where(StreamTaskRow.stream_id == stream).order_by(StreamTaskRow.id)
    return [TaskFound(*row) for row in await session.execute(query)]


async def named(session: AsyncSession, stream: str, name: str) -> list[TaskFound]:
    """Those of a name, the one that the name means first: it is current, or else it is the newest."""
    mine = (StreamTaskRow.stream_id == stream, StreamTaskRow.name == name)
    query = _tasks().where(*mine).order_by(StreamTaskRow.id.desc())
    found = [TaskFound(*row) for row in await session.execute(query)]
    return sorted(found, key=lambda one: not one.current)


async def all_blobs(session: AsyncSession, stream: str) -> set[str]:
    """That any version or held-out set of a stream is in."""
    mine = select(StreamVersionRow.id).where(StreamVersionRow.stream_id == stream)
    queries: Sequence[Select[str | None]] = (
        select(StreamVersionRow.blob).where(StreamVersionRow.stream_id == stream),
        select(StreamPartRow.blob).where(StreamPartRow.version_id.in_(mine)).distinct(),
        select(StreamTaskRow.held_out_blob).where(StreamTaskRow.stream_id == stream),
    )
    found = {blob for query in queries for blob in await session.scalars(query)}
    return {blob for blob in found if blob is not None}


async def unreferenced(session: AsyncSession, tenant: str, digests: Collection[str]) -> set[str]:
    """Those of the blobs that no version and no stream task has. Meant to be asked under `app.db.locks.FILES`."""
    listed, left = sorted(digests), set(digests)
    for start in range(0, len(listed), _CHUNK):
        chunk = listed[start : start + _CHUNK]
        for row, column in (
            (StreamVersionRow, StreamVersionRow.blob),
            (StreamPartRow, StreamPartRow.blob),
            (StreamTaskRow, StreamTaskRow.held_out_blob),
        ):
            named = select(column).where(row.tenant == tenant, column.in_(chunk)).distinct()
            left -= set(await session.scalars(named))
    return left


async def refers(session: AsyncSession, tenant: str, digest: str) -> bool:
    return not await unreferenced(session, tenant, [digest])


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
