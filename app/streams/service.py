"""Streams: create, list, get, roll back, delete. Jobs register and forget stream tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.core.ids import new_id
from app.db.base import now
from app.db.invalidation_log import record
from app.db.tables import JobRow, StreamPartRow, StreamRow, StreamTaskRow, StreamVersionRow
from app.db.tenancy import Store, TenantSession
from app.http.etags import UNCONDITIONAL, Condition, etag
from app.http.fields import SLUG, PageOptions
from app.http.idempotency import UNCLAIMED, Claim, forget
from app.http.pagination import Cursor
from app.http.problems import Fault, ProblemError, fail
from app.jobs import repository as jobs
from app.streams import repository
from app.streams.bundled import (
    CONFIG_FIELDS,
    BundledStreams,
    bundled_stream,
    bundled_tasks,
    bundled_version,
)
from app.streams.cache import changed, deleted
from app.streams.config import stream_config
from app.streams.repository import StreamPart, StreamTaskRecord
from app.streams.resources import StreamResources
from app.streams.schemas import CreateStream
from app.streams.versions import load_stream, load_tasks_named, subject, task_not_found, version_not_found
from hyperserve.stream_types import Alarm, Stream, StreamTask, StreamVersion
from hyperserve.types import Page
from models.continual.bundle import Bundle, TaskFigures

LOCATION = "/v1/streams/{name}"
_FIXED = ("method", "scenario", "hparams", "input", "learner", "seed")
"""Fields that a copy takes from its source."""
_NUMBER = r"[1-9][0-9]{0,8}"


@dataclass(frozen=True)
class StreamService:
    """Raises `ProblemError`. Answers about one stream come with its revision."""

    resources: StreamResources
    store: Store

    async def create(self, request: CreateStream, claim: Claim = UNCLAIMED) -> tuple[Stream, int]:
        """Create a stream without stream tasks, or a copy of a bundled one."""
        bundled = self.resources.bundled
        if request.name in bundled:
            raise _name_taken()
        source = None if request.source is None else _copied_bundle(request, bundled)
        config = (
            source.config if source is not None else await stream_config(request, self.resources.learners)
        )
        row = StreamRow(
            id=new_id("strm"),
            name=request.name,
            config=config.model_dump(mode="json"),
            current=None,
            latest=0,
            alarm_drift=request.alarm.drift,
            alarm_fall=request.alarm.fall,
            revision=1,
        )

        async def rows(session: TenantSession) -> Stream:
            try:
                await repository.add(session, row)
            except IntegrityError:
                raise _name_taken() from None
            if source is not None:
                await _copy(session, row, source)
            answer = stream_answer(row, 0 if source is None else len(source.description.labels))
            headers = {"Location": LOCATION.format(name=row.name), "ETag": etag(row.revision)}
            await claim.keep(session, 201, answer, headers, row.id)
            await record(session, changed(row))
            return answer

        parts = {} if source is None else _parts(source)
        collector = self.resources.runtime.collector
        return await collector.write(self.store, repository.PARTS, parts, rows), row.revision

    async def page(self, options: PageOptions) -> Page[Stream]:
        """List streams in the order of names, bundled ones among them."""
        after = "" if options.cursor is None else Cursor.decode_name(options.cursor, SLUG).after
        async with self.store.read() as session:
            rows = await repository.listed(session, after, options.limit + 1)
            sizes = await repository.sizes(session, [row.id for row in rows])
        self._drop_older(*rows)
        found = {row.name: stream_answer(row, sizes.get(row.id, 0)) for row in rows}
        for name, bundle in self.resources.bundled.bundles.items():
            if name > after:
                found.setdefault(name, bundled_stream(bundle))
        names = sorted(found)
        items = [found[name] for name in names[: options.limit]]
        more = len(names) > options.limit
        return Page[Stream](items=items, next_cursor=Cursor(items[-1].name).encode() if more else None)

    async def get(self, name: str) -> tuple[Stream, int]:
        if (bundle := self.resources.bundled.get(name)) is not None:
            return bundled_stream(bundle), 1
        async with self.store.read() as session:
            row = await load_stream(session, name)
            answer = await _answer(session, row)
        self._drop_older(row)
        return answer, row.revision

    async def tasks(self, name: str) -> Page[StreamTask]:
        """List all stream tasks in the order of their requests: a stream has no more than a page holds."""
        if (bundle := self.resources.bundled.get(name)) is not None:
            return Page[StreamTask](items=bundled_tasks(bundle))
        async with self.store.read() as session:
            row = await load_stream(session, name)
            records = await repository.tasks(session, row.id)
        self._drop_older(row)
        return Page[StreamTask](items=[task_answer(task) for task in records])

    async def task(self, name: str, task: str) -> StreamTask:
        if (bundle := self.resources.bundled.get(name)) is not None:
            bundled = {one.name: one for one in bundled_tasks(bundle)}
            if task not in bundled:
                raise task_not_found()
            return bundled[task]
        async with self.store.read() as session:
            row = await load_stream(session, name)
            records = await load_tasks_named(session, row, task)
        self._drop_older(row)
        return task_answer(records[0])

    async def versions(self, name: str, options: PageOptions) -> Page[StreamVersion]:
        """List versions, newest first."""
        before = None if options.cursor is None else int(Cursor.decode_name(options.cursor, _NUMBER).after)
        if (bundle := self.resources.bundled.get(name)) is not None:
            return Page[StreamVersion](items=[bundled_version(bundle)])
        async with self.store.read() as session:
            row = await load_stream(session, name)
            rows = await repository.versions(session, row.id, before, options.limit + 1)
            shown = rows[: options.limit]
            parts = await repository.parts(session, [version.id for version in shown])
        self._drop_older(row)
        items = [version_answer(version, parts.get(version.id, ()), row.current) for version in shown]
        cursor = Cursor(str(items[-1].number)).encode() if len(rows) > options.limit else None
        return Page[StreamVersion](items=items, next_cursor=cursor)

    async def rollback(
        self, name: str, number: int, condition: Condition = UNCONDITIONAL
    ) -> tuple[Stream, int]:
        """Make another version current, be it earlier or later."""
        self.resources.bundled.check_changeable(name)
        async with self.store.write() as session:
            row = await load_stream(session, name, lock=True)
            condition.check(row.revision)
            if await jobs.active(session, row.id):
                raise fail("stream_busy", "A job of the stream is running or queued.")
            if await repository.version(session, row, number) is None:
                raise version_not_found()
            change = changed(row)
            if row.current != number:
                row.current, row.revision = number, row.revision + 1
                await session.flush()
                change = changed(row)
                await record(session, change)
            answer = await _answer(session, row)
        await self.resources.invalidation.apply(change)
        return answer, row.revision

    async def delete(self, name: str, condition: Condition = UNCONDITIONAL) -> None:
        """Delete a stream, its versions and everything they have learned; cancel its jobs."""
        self.resources.bundled.check_changeable(name)
        async with self.store.write() as session:
            row = await load_stream(session, name)
            # Jobs before the stream, as a worker that publishes locks them: otherwise the two could deadlock.
            await _cancel_jobs(session, row)
            row = await load_stream(session, name, lock=True)
            condition.check(row.revision)
            await _cancel_jobs(session, row)
            blobs = await repository.all_blobs(session, row.id)
            change = deleted(row, await repository.version_ids(session, row.id))
            await session.delete(row)
            await session.flush()
            await forget(session, row.id)
            await record(session, change)
        await self.resources.invalidation.apply(change)
        collector = self.resources.runtime.collector
        await collector.collect(self.store.tenant, repository.PARTS, blobs)

    def _drop_older(self, *rows: StreamRow) -> None:
        """Forget versions older than what an answer tells: from then on, no older one answers here."""
        for row in rows:
            self.resources.versions.drop(subject(self.store.tenant, row.name), row.revision)


def _parts(bundle: Bundle) -> dict[str, bytes]:
    """Return the parts of a bundled version by digest."""
    description = bundle.description
    parts = {digest: bundle.task_part(task) for task, digest in description.own.items()}
    return parts | {description.shared: bundle.shared()}


async def _copy(session: TenantSession, row: StreamRow, bundle: Bundle) -> None:
    """Add the rows of the version and of the stream tasks, without held-out examples. The parts are written before."""
    description = bundle.description
    version = StreamVersionRow(
        id=new_id("sv"),
        stream_id=row.id,
        number=1,
        parent=None,
        blob=description.shared,
        origin="copied",
    )
    # They are listed by id, and ids of the same millisecond have no order.
    ids = sorted(new_id("stask") for _ in description.labels)
    tasks = [_copied_task(row, id, name, bundle) for id, name in zip(ids, description.labels, strict=True)]
    await repository.add(session, version, *tasks)
    for position, task in enumerate(tasks):
        figures = description.tasks.get(task.name, TaskFigures(examples=0))
        part = StreamPartRow(
            version_id=version.id,
            position=position,
            task_id=task.id,
            blob=description.own[task.name],
            accuracy=figures.accuracy_now,
            inferred=figures.inferred_now,
            drift=figures.drift,
            alarm=False,
        )
        session.add(part)
    row.current = row.latest = 1
    await session.flush()


def stream_answer(row: StreamRow, tasks: int) -> Stream:
    """`tasks` is the number of stream tasks in the current version."""
    return Stream(
        name=row.name,
        version=row.current,
        tasks=tasks,
        alarm=Alarm(drift=row.alarm_drift, fall=row.alarm_fall),
        created_at=row.created_at,
        **{name: row.config[name] for name in CONFIG_FIELDS},
    )


def task_answer(record: StreamTaskRecord) -> StreamTask:
    row, part = record.row, record.part
    return StreamTask(
        name=row.name,
        labels=row.labels,
        state=record.state,
        examples=row.examples,
        held_out=row.held_out,
        accuracy_registered=row.accuracy_registered,
        accuracy_now=None if part is None else part.accuracy,
        inferred_now=None if part is None else part.inferred,
        drift=None if part is None else part.drift,
        alarm=part is not None and part.alarm,
        job=row.job_id,
        dataset=row.dataset_id,
        error=record.error,
        created_at=row.created_at,
        registered_at=row.registered_at,
        forgotten_at=row.forgotten_at,
    )


def version_answer(row: StreamVersionRow, parts: Sequence[StreamPart], current: int | None) -> StreamVersion:
    return StreamVersion(
        number=row.number,
        parent=row.parent,
        origin=row.origin,
        task=row.subject,
        current=row.number == current,
        tasks=[part.name for part in parts],
        job=row.job_id,
        created_at=row.created_at,
    )


def _copied_bundle(request: CreateStream, bundled: BundledStreams) -> Bundle:
    """Raises `ProblemError` 422."""
    if given := [name for name in _FIXED if name in request.model_fields_set]:
        detail = "A copy takes this field from its source."
        raise ProblemError([Fault("given_twice", detail, f"/{name}") for name in given])
    found = bundled.get(request.source or "")
    if found is None:
        detail = f"Streams that can be copied: {', '.join(bundled.bundles) or 'none'}."
        raise fail("unknown_stream", detail, "/from")
    return found


def _copied_task(stream: StreamRow, id: str, name: str, bundle: Bundle) -> StreamTaskRow:
    figures = bundle.description.tasks.get(name, TaskFigures(examples=0))
    return StreamTaskRow(
        id=id,
        stream_id=stream.id,
        name=name,
        labels=list(bundle.description.labels[name]),
        state="ready",
        examples=figures.examples,
        held_out=0,
        accuracy_registered=figures.accuracy_registered,
        registered_at=now(),
    )


async def _answer(session: TenantSession, row: StreamRow) -> Stream:
    sizes = await repository.sizes(session, [row.id])
    return stream_answer(row, sizes.get(row.id, 0))


async def _cancel_jobs(session: TenantSession, row: StreamRow) -> None:
    active = select(JobRow.id).where(JobRow.lane == row.id, JobRow.state.in_(jobs.ACTIVE))
    for job in list(await session.scalars(active)):
        await jobs.request_cancel(session, job)


def _name_taken() -> ProblemError:
    return fail("stream_exists", "A stream has this name already.", "/name")
