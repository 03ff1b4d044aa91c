"""Tasks in the database. Every function takes the session, and the tenant whose rows alone it sees."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Row, Select, delete, insert, literal, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import ExampleRow, TaskRow, VersionExampleRow, VersionRow
from app.ids import new_id

_CHUNK = 500
_LOCK = 0x68797065  # "hype": PostgreSQL's advisory lock of the blobs


@dataclass(frozen=True)
class StoredExample:
    label: str
    kind: str
    blob: str


async def lock_blobs(session: AsyncSession) -> None:
    """Until commit nobody else adds or drops references to blobs. On SQLite every writer is alone anyway."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


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


async def add_version(
    session: AsyncSession, task: TaskRow, version: VersionRow, *, examples_of: VersionRow
) -> None:
    """A version of the same examples as another, made current."""
    session.add(version)
    await session.flush()
    source = select(
        literal(version.id),
        VersionExampleRow.position,
        VersionExampleRow.example_id,
        VersionExampleRow.tenant,
    ).where(VersionExampleRow.version_id == examples_of.id)
    columns = ["version_id", "position", "example_id", "tenant"]
    await session.execute(insert(VersionExampleRow).from_select(columns, source))
    task.current = version.number


async def get_current(session: AsyncSession, tenant: str, task: str) -> tuple[TaskRow, VersionRow] | None:
    row = (await session.execute(_current(tenant).where(TaskRow.id == task))).one_or_none()
    return None if row is None else _pair(row)


async def list_current(
    session: AsyncSession, tenant: str, before: str | None, limit: int
) -> list[tuple[TaskRow, VersionRow]]:
    """Newest first, starting after the task `before`."""
    query = _current(tenant).order_by(TaskRow.id.desc()).limit(limit)
    if before is not None:
        query = query.where(TaskRow.id < before)
    return [_pair(row) for row in await session.execute(query)]


async def get_examples(session: AsyncSession, tenant: str, version: str) -> list[StoredExample]:
    """Of a version, in order."""
    query = (
        select(ExampleRow.label, ExampleRow.kind, ExampleRow.blob)
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


async def remove_task(session: AsyncSession, tenant: str, task: str) -> Removed | None:
    """None when there is no such task."""
    mine = (VersionRow.tenant == tenant, VersionRow.task_id == task)
    versions = [
        (row[0], row[1])
        for row in await session.execute(select(VersionRow.learner_digest, VersionRow.id).where(*mine))
    ]
    blobs = set(
        await session.scalars(
            select(ExampleRow.blob).where(ExampleRow.tenant == tenant, ExampleRow.task_id == task)
        )
    )
    gone = await session.execute(
        delete(TaskRow).where(TaskRow.tenant == tenant, TaskRow.id == task).returning(TaskRow.id)
    )
    return Removed(versions, blobs) if gone.one_or_none() else None


async def unreferenced(session: AsyncSession, tenant: str, blobs: Collection[str]) -> set[str]:
    """Those that no example names. Meant to be asked under `lock_blobs`."""
    left = set(blobs)
    names = sorted(left)
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        left -= set(
            await session.scalars(
                select(ExampleRow.blob)
                .where(ExampleRow.tenant == tenant, ExampleRow.blob.in_(chunk))
                .distinct()
            )
        )
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
