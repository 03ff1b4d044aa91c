"""Checks of an archive as a whole: its rows fit each other, and it holds every blob that they name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import AppError
from app.datasets import repository as datasets
from app.db.blobs import RAW, raw_path
from app.db.tables import (
    DatasetRow,
    ExampleRow,
    JobRow,
    LearnerRow,
    PredictionRow,
    StreamPartRow,
    StreamRow,
    StreamTaskRow,
    StreamVersionRow,
    TaskRow,
    VersionExampleRow,
    VersionRow,
)
from app.learners import repository as learners
from app.learners.files import FILES, digest_of_files
from app.streams import repository as streams

_FLOAT_BYTES = 4
_ROWS_AT_ONCE = 500


class ArchiveError(AppError):
    """Rows of an archive contradict each other, or name a blob that it lacks."""


@dataclass(frozen=True)
class ArchivedBlob:
    size: int
    digest: str


async def check_archive(
    session: AsyncSession, tables: list[Table], blobs: Mapping[str, ArchivedBlob]
) -> None:
    """Check the rows, which are in a database of their own, and the blobs by their paths. Raises `ArchiveError`."""
    await _check_tenants(session, tables)
    await _check_blobs(session, blobs)
    await _check_learners(session, blobs)
    await _check_versions(session, blobs)
    await _check_current(session)
    await _check_streams(session)
    await _check_answers(session)


async def _check_tenants(session: AsyncSession, tables: list[Table]) -> None:
    for table in tables:
        for key in table.foreign_keys:
            parent, child = key.column, key.parent
            foreign = (
                select(child)
                .join(parent.table, parent == child)
                .where(parent.table.c.tenant != table.c.tenant)
            )
            if (await session.execute(foreign.limit(1))).first() is not None:
                raise ArchiveError(f"a row of {table.name} refers to a row of another tenant")


async def _check_blobs(session: AsyncSession, blobs: Mapping[str, ArchivedBlob]) -> None:
    named: list[tuple[str, type, str]] = [
        (RAW, ExampleRow, "blob"),
        (RAW, PredictionRow, "blob"),
        (datasets.FOLDER, DatasetRow, "blob"),
        (streams.FOLDER, StreamVersionRow, "blob"),
        (streams.FOLDER, StreamPartRow, "blob"),
        (streams.FOLDER, StreamTaskRow, "held_out_blob"),
    ]
    for folder, row, name in named:
        table: Table = row.__table__  # type: ignore[attr-defined]
        column: Column[str] = table.c[name]
        query = select(table.c.tenant, column).where(column.is_not(None)).distinct()
        async for tenant, blob in await session.stream(query):
            path = f"{folder}/{tenant}/{raw_path(blob) if folder == RAW else blob}"
            if path not in blobs:
                raise ArchiveError(f"a row of {table.name} names the blob {path}, which the archive lacks")


async def _check_learners(session: AsyncSession, blobs: Mapping[str, ArchivedBlob]) -> None:
    row = LearnerRow
    for tenant, name, status, digest in await session.execute(
        select(row.tenant, row.name, row.status, row.digest)
    ):
        if digest is None:
            if status == "ready":
                raise ArchiveError(f"the learner {name} is ready, but has no files")
            continue
        found = {file: blobs.get(f"{learners.FOLDER}/{tenant}/{digest}/{file}") for file in FILES}
        present = {file: blob.digest for file, blob in found.items() if blob is not None}
        if len(present) < len(FILES) or digest_of_files(present) != digest:
            raise ArchiveError(f"the files of the learner {name} are missing or damaged")


async def _check_versions(session: AsyncSession, blobs: Mapping[str, ArchivedBlob]) -> None:
    rows = await session.stream_scalars(select(VersionRow).execution_options(yield_per=_ROWS_AT_ONCE))
    async for version in rows:
        query = (
            select(ExampleRow)
            .join(VersionExampleRow, VersionExampleRow.example_id == ExampleRow.id)
            .where(VersionExampleRow.version_id == version.id)
        )
        examples = list(await session.scalars(query))
        fault = _fault_of_version(version, examples) or _fault_of_inputs(version, examples, blobs)
        if fault is not None:
            raise ArchiveError(f"the version {version.id}: {fault}")


def _fault_of_version(version: VersionRow, examples: list[ExampleRow]) -> str | None:
    if any(example.task_id != version.task_id for example in examples):
        return "it has an example of another task"
    if len({example.kind for example in examples}) != 1:
        return "its examples are missing, or of several kinds"
    if version.target is not None:
        if any(example.target is None or len(example.target) != version.target for example in examples):
            return "its targets have other lengths"
        return None if version.shots == [len(examples)] and not version.classes else "it has classes"
    counts = Counter(example.label for example in examples)
    if len(set(version.classes)) < len(version.classes) or counts.keys() != set(version.classes):
        return "its classes are not the labels of its examples"
    if any(example.target is not None for example in examples):
        return "it has targets beside labels"
    return None if version.shots == [counts[name] for name in version.classes] else "its shots are wrong"


def _fault_of_inputs(
    version: VersionRow, examples: list[ExampleRow], blobs: Mapping[str, ArchivedBlob]
) -> str | None:
    sizes = {
        blobs[f"{RAW}/{example.tenant}/{raw_path(example.blob)}"].size
        for example in examples
        if example.kind == "vector"
    }
    if sizes and (len(version.shape) != 1 or sizes != {_FLOAT_BYTES * version.shape[0]}):
        return "its vectors have another length"
    return None


async def _check_current(session: AsyncSession) -> None:
    known = select(VersionRow.id).where(
        VersionRow.task_id == TaskRow.id, VersionRow.number == TaskRow.current
    )
    lost = await session.scalar(select(TaskRow.id).where(~known.exists()).limit(1))
    if lost is not None:
        raise ArchiveError(f"the task {lost} has no version with the number of its current one")


async def _check_streams(session: AsyncSession) -> None:
    row, version = StreamRow, StreamVersionRow
    known = select(version.id).where(version.stream_id == row.id, version.number == row.current)
    lost = await session.scalar(select(row.name).where(row.current.is_not(None), ~known.exists()).limit(1))
    if lost is not None:
        raise ArchiveError(f"the stream {lost} has no version with the number of its current one")
    newest = select(func.max(version.number)).where(version.stream_id == row.id).scalar_subquery()
    behind = await session.scalar(select(row.name).where(row.latest < newest).limit(1))
    if behind is not None:
        raise ArchiveError(f"the stream {behind} has a version after its latest one")
    part = StreamPartRow
    foreign = (
        select(part.version_id)
        .join(version, version.id == part.version_id)
        .join(StreamTaskRow, StreamTaskRow.id == part.task_id)
        .where(StreamTaskRow.stream_id != version.stream_id)
    )
    mixed = await session.scalar(foreign.limit(1))
    if mixed is not None:
        raise ArchiveError(f"the version {mixed} holds a task of another stream")
    for name, config in await session.execute(select(row.name, row.config)):
        _check_config(name, config)


def _check_config(name: str, config: object) -> None:
    # Imported here: an archive without streams is restored without torch.
    from pydantic import ValidationError

    from models.continual.stream_config import StreamConfig
    from models.errors import ModelError
    from models.registry import STREAMS

    try:
        found = StreamConfig.model_validate(config)
        STREAMS.configured(found.method, found.hparams)
    except (ValidationError, ModelError) as error:
        raise ArchiveError(f"the configuration of the stream {name} cannot be used") from error


async def _check_answers(session: AsyncSession) -> None:
    """Check that clients can be shown the rows whose JSON they see."""
    # Imported here: they import what reads data sets.
    from pydantic import ValidationError

    from app.datasets.service import dataset_answer
    from app.jobs.repository import job_answer

    answers: list[tuple[Any, Callable[[Any], object]]] = [(DatasetRow, dataset_answer), (JobRow, job_answer)]
    for row, answer in answers:
        rows = await session.stream_scalars(select(row).execution_options(yield_per=_ROWS_AT_ONCE))
        async for one in rows:
            try:
                answer(one)
            except (ValidationError, TypeError) as error:
                raise ArchiveError(f"{one.id} of {row.__tablename__} cannot be shown") from error
