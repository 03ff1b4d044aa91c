"""Streams: made, listed, read, rolled back, deleted. What registers and forgets stream tasks are jobs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import new_id
from app.db.base import now
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.invalidation_log import Change, record
from app.db.locks import FILES, lock
from app.db.tables import JobRow, StreamPartRow, StreamRow, StreamTaskRow, StreamVersionRow
from app.http.etags import UNCONDITIONAL, Condition, etag
from app.http.fields import SLUG
from app.http.idempotency import UNCLAIMED, Claim, forget
from app.http.pagination import Cursor
from app.http.problems import Fault, ProblemError, fail
from app.jobs import repository as jobs
from app.jobs import repository as lanes
from app.learners.service import Learners
from app.streams import files, repository, responses
from app.streams import versions as reading
from app.streams.bundled import BundledStreams
from app.streams.cache import changed, deleted
from app.streams.config import describe
from app.streams.repository import TaskFound
from app.streams.schemas import CreateStream
from hyperserve.stream_types import Stream, StreamTask, StreamVersion
from hyperserve.types import Page
from models.continual.bundle import Bundle, TaskFigures

_FIXED = ("method", "scenario", "hparams", "input", "learner", "seed")
"""Fields that a copy has from its source."""


def copied_bundle(wanted: CreateStream, bundled: BundledStreams) -> Bundle:
    """Raises `ProblemError` 422."""
    if given := [name for name in _FIXED if name in wanted.model_fields_set]:
        raise ProblemError([Fault("given_twice", "A copy has it from its source.", f"/{n}") for n in given])
    found = bundled.get(wanted.source or "")
    if found is None:
        detail = f"Copied can be: {', '.join(bundled.bundles) or 'none'}."
        raise fail("unknown_stream", detail, "/from")
    return found


async def copy(session: AsyncSession, blobs: Blobs, row: StreamRow, bundle: Bundle) -> None:
    """Its one version and its stream tasks, whose held-out examples are not copied. To be called under
    `app.db.locks.FILES`."""
    description = bundle.description
    parts = {digest: bundle.own(task) for task, digest in description.own.items()}
    parts[description.shared] = bundle.shared()
    await files.keep(blobs, row.tenant, parts)
    version = StreamVersionRow(
        id=new_id("sv"),
        tenant=row.tenant,
        stream_id=row.id,
        number=1,
        parent=None,
        blob=description.shared,
        origin="copied",
    )
    # They are listed by their ids, and ids of one millisecond come in any order.
    ids = sorted(new_id("stask") for _ in description.labels)
    named = zip(ids, description.labels.items(), strict=True)
    tasks = [_task(row, id, name, labels, bundle) for id, (name, labels) in named]
    await repository.add(session, version, *tasks)
    for position, task in enumerate(tasks):
        figures = description.tasks.get(task.name, TaskFigures(examples=0))
        session.add(
            StreamPartRow(
                version_id=version.id,
                position=position,
                tenant=row.tenant,
                task_id=task.id,
                blob=description.own[task.name],
                accuracy=figures.accuracy_now,
                inferred=figures.inferred_now,
                drift=figures.drift,
                alarm=False,
            )
        )
    row.current = row.latest = 1
    await session.flush()


def _task(row: StreamRow, id: str, name: str, labels: tuple[str, ...], bundle: Bundle) -> StreamTaskRow:
    figures = bundle.description.tasks.get(name, TaskFigures(examples=0))
    return StreamTaskRow(
        id=id,
        tenant=row.tenant,
        stream_id=row.id,
        name=name,
        labels=list(labels),
        state="ready",
        examples=figures.examples,
        held_out=0,
        accuracy_registered=figures.accuracy_registered,
        registered_at=now(),
    )


LOCATION = "/v1/streams/{name}"
Told = Callable[[Change], Awaitable[None]]


class StreamService:
    """Raises `ProblemError`. Answers of one stream come with its revision."""

    def __init__(
        self, database: Database, blobs: Blobs, learners: Learners, bundled: BundledStreams, told: Told
    ) -> None:
        """`told` of changes as soon as they are committed: this process must not wait for its own news."""
        self._database = database
        self._blobs = blobs
        self._learners = learners
        self._bundled = bundled
        self._told = told

    async def create(self, tenant: str, wanted: CreateStream, claim: Claim = UNCLAIMED) -> tuple[Stream, int]:
        """Without stream tasks, or as a copy of one that came with the server."""
        if wanted.name in self._bundled:
            raise _taken()
        source = None if wanted.source is None else copied_bundle(wanted, self._bundled)
        config = source.config if source is not None else await describe(wanted, self._learners)
        row = StreamRow(
            id=new_id("strm"),
            tenant=tenant,
            name=wanted.name,
            config=config.model_dump(mode="json"),
            current=None,
            latest=0,
            alarm_drift=wanted.alarm.drift,
            alarm_fall=wanted.alarm.fall,
            revision=1,
        )
        async with self._database.write() as session:
            # Two requests for one name go one after the other; and no blob is cleared away before its row is there.
            await lock(session, FILES)
            if await repository.get(session, tenant, row.name) is not None:
                raise _taken()
            await repository.add(session, row)
            if source is not None:
                await copy(session, self._blobs, row, source)
            answer = responses.stream_answer(row, 0 if source is None else len(source.description.labels))
            headers = {"Location": LOCATION.format(name=row.name), "ETag": etag(row.revision)}
            await claim.keep(session, 201, answer, headers, row.id)
            await record(session, changed(row))
        return answer, row.revision

    async def page(self, tenant: str, cursor: Cursor | None, limit: int) -> Page[Stream]:
        """In the order of names, those of the server among them."""
        after = "" if cursor is None else cursor.after
        async with self._database.read() as session:
            rows = await repository.listed(session, tenant, after, limit + 1)
            sizes = await repository.sizes(session, [row.id for row in rows])
        found = {row.name: responses.stream_answer(row, sizes.get(row.id, 0)) for row in rows}
        for name, bundle in self._bundled.bundles.items():
            if name > after:
                found.setdefault(name, responses.bundle_answer(bundle))
        names = sorted(found)
        items = [found[name] for name in names[:limit]]
        more = len(names) > limit
        return Page[Stream](items=items, next_cursor=Cursor(items[-1].name).encode() if more else None)

    async def get(self, tenant: str, name: str) -> tuple[Stream, int]:
        if (bundle := self._bundled.get(name)) is not None:
            return responses.bundle_answer(bundle), 1
        async with self._database.read() as session:
            row = await found(session, tenant, name)
            return await _answer(session, row), row.revision

    async def tasks(self, tenant: str, name: str) -> Page[StreamTask]:
        """All, in the order in which they were asked for: a stream has no more than a page holds."""
        if (bundle := self._bundled.get(name)) is not None:
            return Page[StreamTask](items=responses.bundle_tasks(bundle))
        async with self._database.read() as session:
            row = await found(session, tenant, name)
            tasks = await repository.tasks(session, row.id)
        return Page[StreamTask](items=[responses.task_answer(task) for task in tasks])

    async def task(self, tenant: str, name: str, task: str) -> StreamTask:
        if (bundle := self._bundled.get(name)) is not None:
            shipped = {one.name: one for one in responses.bundle_tasks(bundle)}
            if task not in shipped:
                raise no_task()
            return shipped[task]
        async with self._database.read() as session:
            row = await found(session, tenant, name)
            tasks = await named(session, row, task)
        return responses.task_answer(tasks[0])

    async def versions(
        self, tenant: str, name: str, cursor: Cursor | None, limit: int
    ) -> Page[StreamVersion]:
        """Newest first."""
        if (bundle := self._bundled.get(name)) is not None:
            return Page[StreamVersion](items=[responses.bundle_version(bundle)])
        before = None if cursor is None else int(cursor.after)
        async with self._database.read() as session:
            row = await found(session, tenant, name)
            rows = await repository.versions(session, row.id, before, limit + 1)
            held = await repository.parts(session, [version.id for version in rows[:limit]])
        items = [
            responses.version_answer(version, held.get(version.id, ()), row.current)
            for version in rows[:limit]
        ]
        more = len(rows) > limit
        return Page[StreamVersion](
            items=items, next_cursor=Cursor(str(items[-1].number)).encode() if more else None
        )

    async def rollback(
        self, tenant: str, name: str, number: int, condition: Condition = UNCONDITIONAL
    ) -> tuple[Stream, int]:
        """Makes an earlier version, or a later one again, the one that answers."""
        self._bundled.refuse(name)
        async with self._database.write() as session:
            row = await found(session, tenant, name, lock=True)
            condition.check(row.revision)
            if await lanes.active(session, row.id):
                raise fail("stream_busy", "A job works on the stream, or waits to.")
            if await repository.version(session, row, number) is None:
                raise reading.no_version()
            if row.current != number:
                row.current, row.revision = number, row.revision + 1
                await session.flush()
                await record(session, changed(row))
            answer, change = await _answer(session, row), changed(row)
        await self._told(change)
        return answer, row.revision

    async def delete(self, tenant: str, name: str, condition: Condition = UNCONDITIONAL) -> None:
        """With its versions and whatever they have learned; its jobs are cancelled."""
        self._bundled.refuse(name)
        async with self._database.write() as session:
            row = await found(session, tenant, name)
            # Jobs before the stream, as a worker that publishes has them: else one would wait for the other.
            await self._cancel(session, row)
            row = await found(session, tenant, name, lock=True)
            condition.check(row.revision)
            await self._cancel(session, row)
            blobs = await repository.all_blobs(session, row.id)
            mine = select(StreamVersionRow.id).where(StreamVersionRow.stream_id == row.id)
            versions = list(await session.scalars(mine))
            await session.delete(row)
            await session.flush()
            await forget(session, tenant, row.id)
            change = deleted(row, versions)
            await record(session, change)
        await self._told(change)
        await files.collect(self._database, self._blobs, tenant, blobs)

    async def _cancel(self, session: AsyncSession, row: StreamRow) -> None:
        waiting = select(JobRow.id).where(JobRow.lane == row.id, JobRow.state.in_(lanes.ACTIVE))
        for job in list(await session.scalars(waiting)):
            await jobs.request_cancel(session, row.tenant, job)


async def found(session: AsyncSession, tenant: str, name: str, *, lock: bool = False) -> StreamRow:
    """Raises `ProblemError` 404."""
    row = None
    if re.fullmatch(SLUG, name) is not None:
        row = await repository.get(session, tenant, name, lock=lock)
    if row is None:
        raise reading.not_found()
    return row


async def named(session: AsyncSession, row: StreamRow, task: str) -> list[TaskFound]:
    """Stream tasks of a name, the one that the name means first. Raises `ProblemError` 404."""
    tasks = []
    if re.fullmatch(SLUG, task) is not None:
        tasks = await repository.named(session, row.id, task)
    if not tasks:
        raise no_task()
    return tasks


def cursor_of(text: str | None) -> Cursor | None:
    return None if text is None else Cursor.decode_name(text, SLUG)


def number_cursor(text: str | None) -> Cursor | None:
    """Of a list of versions."""
    return None if text is None else Cursor.decode_name(text, r"[1-9][0-9]{0,8}")


def no_task() -> ProblemError:
    return fail("stream_task_not_found", "The stream has no such stream task.")


async def _answer(session: AsyncSession, row: StreamRow) -> Stream:
    sizes = await repository.sizes(session, [row.id])
    return responses.stream_answer(row, sizes.get(row.id, 0))


def _taken() -> ProblemError:
    return fail("stream_exists", "A stream has this name already.", "/name")
