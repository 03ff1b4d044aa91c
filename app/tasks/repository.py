"""Tasks in the database. Every function takes the session, and the tenant whose rows alone it sees.

Their versions are in `app.tasks.history`, predictions that were kept in `app.tasks.kept`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Row, Select, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import ExampleRow, PredictionRow, TaskRow, VersionExampleRow, VersionRow
from app.ids import new_id
from app.tasks.support import Aim

_CHUNK = 500


@dataclass(frozen=True)
class StoredExample:
    label: str
    kind: str
    blob: str
    target: Sequence[float] | None = None

    @property
    def aim(self) -> Aim:
        return self.label, None if self.target is None else tuple(self.target)


async def add_task(
    session: AsyncSession, task: TaskRow, version: VersionRow, examples: Sequence[StoredExample]
) -> None:
    """`version.tenant` and `version.task_id` are taken for all rows."""
    session.add(task)
    await session.flush()
    session.add(version)
    await session.flush()
    ids = [new_id("ex") for _ in examples]
    await session.execute(
        insert(ExampleRow),
        [
            {"id": id, "tenant": task.tenant, "task_id": task.id, **vars(example)}
            for id, example in zip(ids, examples, strict=True)
        ],
    )
    await session.execute(
        insert(VersionExampleRow),
        [
            {"version_id": version.id, "position": position, "example_id": id, "tenant": task.tenant}
            for position, id in enumerate(ids)
        ],
    )


async def get_current(session: AsyncSession, tenant: str, task: str) -> tuple[TaskRow, VersionRow] | None:
    row = (await session.execute(_current(tenant).where(TaskRow.id == task))).one_or_none()
    return None if row is None else _pair(row)


async def ways_of_tasks(
    session: AsyncSession, tenant: str, before: str | None, limit: int
) -> list[tuple[str, int]]:
    """Ids of tasks and how many classes each has, newest first, starting after the task `before`."""
    query = (
        _current(tenant)
        .with_only_columns(TaskRow.id, func.json_array_length(VersionRow.shots))
        .order_by(TaskRow.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(TaskRow.id < before)
    return [(row[0], row[1]) for row in await session.execute(query)]


async def list_current(
    session: AsyncSession, tenant: str, ids: Sequence[str]
) -> list[tuple[TaskRow, VersionRow]]:
    """Newest first."""
    query = _current(tenant).where(TaskRow.id.in_(ids)).order_by(TaskRow.id.desc())
    return [_pair(row) for row in await session.execute(query)]


async def get_examples(session: AsyncSession, tenant: str, version: str) -> list[StoredExample]:
    """Of a version, in order."""
    query = (
        select(ExampleRow.label, ExampleRow.kind, ExampleRow.blob, ExampleRow.target)
        .join(VersionExampleRow, VersionExampleRow.example_id == ExampleRow.id)
        .where(VersionExampleRow.version_id == version, ExampleRow.tenant == tenant)
        .order_by(VersionExampleRow.position)
    )
    return [StoredExample(*row) for row in await session.execute(query)]


@dataclass(frozen=True)
class Removed:
    """What a deleted task leaves behind outside the database."""

    versions: list[tuple[str, str]]
    """Learner digest and version id."""
    blobs: set[str]
    revision: int
    """Where the task stood."""


async def remove_task(session: AsyncSession, tenant: str, task: str) -> Removed | None:
    """None when there is no such task."""
    # Locked first: a version that is being written lands before it is looked for, or not at all.
    known = select(TaskRow.revision).where(TaskRow.tenant == tenant, TaskRow.id == task).with_for_update()
    revision = (await session.scalars(known)).one_or_none()
    if revision is None:
        return None
    mine = (VersionRow.tenant == tenant, VersionRow.task_id == task)
    versions = [
        (row[0], row[1])
        for row in await session.execute(select(VersionRow.learner_digest, VersionRow.id).where(*mine))
    ]
    blobs: set[str] = set()
    for row in (ExampleRow, PredictionRow):
        blobs |= set(await session.scalars(select(row.blob).where(row.tenant == tenant, row.task_id == task)))
    await session.execute(delete(TaskRow).where(TaskRow.tenant == tenant, TaskRow.id == task))
    return Removed(versions, blobs, revision)


async def unreferenced(session: AsyncSession, tenant: str, blobs: Collection[str]) -> set[str]:
    """Those that no example and no prediction names. Meant to be asked under `Holds.alone`."""
    left = set(blobs)
    names = sorted(left)
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        for row in (ExampleRow, PredictionRow):
            query = select(row.blob).where(row.tenant == tenant, row.blob.in_(chunk)).distinct()
            left -= set(await session.scalars(query))
    return left


async def known_versions(session: AsyncSession, versions: Collection[str]) -> set[str]:
    """Those that are in the database, of any tenant."""
    return set(await session.scalars(select(VersionRow.id).where(VersionRow.id.in_(versions))))


def _current(tenant: str) -> Select[TaskRow, VersionRow]:
    return (
        select(TaskRow, VersionRow)
        .join(VersionRow, (VersionRow.task_id == TaskRow.id) & (VersionRow.number == TaskRow.current))
        .where(TaskRow.tenant == tenant)
    )


def _pair(row: Row[TaskRow, VersionRow]) -> tuple[TaskRow, VersionRow]:
    return row[0], row[1]
