"""Tasks in the database. Every function takes the session, and the tenant whose rows alone it sees.

Their versions are in `app.tasks.repository`, predictions that were kept in `app.tasks.repository`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, and_, delete, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import new_id
from app.db.tables import ExampleRow, PredictionRow, TaskRow, VersionExampleRow, VersionRow
from app.payloads.support import Aim
from hyperserve.types import Example
from models.artifact import Artifact

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


@dataclass(frozen=True)
class Held:
    """An example in its place in a support set. Places grow; they need not follow each other."""

    position: int
    id: str
    label: str
    kind: str
    blob: str
    prediction: str | None = None
    """The kept prediction whose query it is, whatever its label or target has become since."""
    target: Sequence[float] | None = None

    @property
    def aim(self) -> Aim:
        return self.label, None if self.target is None else tuple(self.target)

    @property
    def stored(self) -> StoredExample:
        return StoredExample(self.label, self.kind, self.blob, self.target)


@dataclass(frozen=True)
class Base:
    """What a new version is made from: a task and its current version."""

    task: TaskRow
    version: VersionRow
    examples: tuple[Held, ...]


async def get_version(
    session: AsyncSession, tenant: str, task: str, number: int
) -> tuple[TaskRow, VersionRow] | None:
    query = (
        select(TaskRow, VersionRow)
        .join(VersionRow, VersionRow.task_id == TaskRow.id)
        .where(TaskRow.tenant == tenant, TaskRow.id == task, VersionRow.number == number)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def lock_task(session: AsyncSession, tenant: str, task: str) -> TaskRow | None:
    """The task; until the end of the transaction nobody else changes it."""
    query = select(TaskRow).where(TaskRow.tenant == tenant, TaskRow.id == task).with_for_update()
    return (await session.scalars(query)).one_or_none()


async def share_task(session: AsyncSession, tenant: str, task: str) -> bool:
    """Whether the task is there; if so it is, until the end of the transaction."""
    query = select(TaskRow.id).where(TaskRow.tenant == tenant, TaskRow.id == task)
    return (await session.scalars(query.with_for_update(read=True, key_share=True))).one_or_none() is not None


async def get_held(session: AsyncSession, tenant: str, version: str) -> tuple[Held, ...]:
    """All examples of a version, in order."""
    row = ExampleRow
    query = (
        select(VersionExampleRow.position, row.id, row.label, row.kind, row.blob, row.prediction, row.target)
        .join(VersionExampleRow, VersionExampleRow.example_id == ExampleRow.id)
        .where(VersionExampleRow.version_id == version, ExampleRow.tenant == tenant)
        .order_by(VersionExampleRow.position)
    )
    return tuple(Held(*row) for row in await session.execute(query))


async def page_examples(
    session: AsyncSession, tenant: str, version: str, after: int, limit: int
) -> list[tuple[int, Example]]:
    """Examples of a version behind a place, and their places."""
    query = (
        select(VersionExampleRow.position, ExampleRow)
        .join(ExampleRow, VersionExampleRow.example_id == ExampleRow.id)
        .where(
            VersionExampleRow.version_id == version,
            VersionExampleRow.position > after,
            ExampleRow.tenant == tenant,
        )
        .order_by(VersionExampleRow.position)
        .limit(limit)
    )
    return [(position, _example(row)) for position, row in await session.execute(query)]


def _example(row: ExampleRow) -> Example:
    example = Example.model_validate(row, from_attributes=True)
    return example if row.target is None else example.model_copy(update={"label": None})


async def ways_of_versions(
    session: AsyncSession, tenant: str, task: str, before: str | None, limit: int
) -> list[tuple[str, int]]:
    """Ids of versions and how many classes each has, newest first, behind the version `before`."""
    query = (
        select(VersionRow.id, func.json_array_length(VersionRow.shots))
        .where(VersionRow.tenant == tenant, VersionRow.task_id == task)
        .order_by(VersionRow.number.desc())
        .limit(limit)
    )
    if before is not None:
        mine = (VersionRow.id == before, VersionRow.task_id == task)
        query = query.where(VersionRow.number < select(VersionRow.number).where(*mine).scalar_subquery())
    return [(row[0], row[1]) for row in await session.execute(query)]


async def get_versions(session: AsyncSession, tenant: str, ids: Sequence[str]) -> list[VersionRow]:
    """Newest first."""
    query = select(VersionRow).where(VersionRow.tenant == tenant, VersionRow.id.in_(ids))
    return list(await session.scalars(query.order_by(VersionRow.number.desc())))


async def next_number(session: AsyncSession, task: TaskRow) -> int:
    """Of a locked task."""
    query = select(func.max(VersionRow.number)).where(VersionRow.task_id == task.id)
    return (await session.scalars(query)).one() + 1


async def add_version(
    session: AsyncSession,
    version: VersionRow,
    base: VersionRow,
    *,
    dropped: str | None = None,
    added: Sequence[Held] = (),
) -> None:
    """A version of the examples of another, but for one dropped, and some added: their rows are new."""
    session.add(version)
    await session.flush()
    row = VersionExampleRow
    source = select(literal(version.id), row.position, row.example_id, row.tenant)
    source = source.where(row.version_id == base.id)
    if dropped is not None:
        source = source.where(row.example_id != dropped)
    columns = ["version_id", "position", "example_id", "tenant"]
    await session.execute(insert(row).from_select(columns, source))
    if added:
        common = {"tenant": version.tenant, "task_id": version.task_id}
        names = ("id", "label", "kind", "blob", "prediction", "target")
        await session.execute(
            insert(ExampleRow),
            [{name: getattr(held, name) for name in names} | common for held in added],
        )
        await session.execute(
            insert(row),
            [
                {
                    "version_id": version.id,
                    "position": held.position,
                    "example_id": held.id,
                    "tenant": version.tenant,
                }
                for held in added
            ],
        )


async def find_twin(session: AsyncSession, version: VersionRow, artifact: Artifact) -> VersionRow | None:
    """Another version of the same examples, made by this learner; the newest of them."""
    query = _of_task(version.tenant, version.task_id).where(
        VersionRow.learner == artifact.name,
        VersionRow.learner_digest == artifact.digest,
        VersionRow.seed == version.seed,
    )
    for row in await session.scalars(query.order_by(VersionRow.number.desc())):
        if row.shots == version.shots and await same_examples(session, row.id, version.id):
            return row
    return None


async def same_examples(session: AsyncSession, version: str, other: str) -> bool:
    """Of two versions with the same number of examples."""
    if version == other:
        return True
    twin = VersionExampleRow.__table__.alias()
    meets = and_(
        twin.c.version_id == other,
        twin.c.position == VersionExampleRow.position,
        twin.c.example_id == VersionExampleRow.example_id,
    )
    missing = (
        select(VersionExampleRow.position)
        .outerjoin(twin, meets)
        .where(VersionExampleRow.version_id == version, twin.c.version_id.is_(None))
        .limit(1)
    )
    return (await session.execute(missing)).one_or_none() is None


def _of_task(tenant: str, task: str) -> Select[VersionRow]:
    return select(VersionRow).where(VersionRow.tenant == tenant, VersionRow.task_id == task)


async def owns(session: AsyncSession, tenant: str, task: str, version: str) -> bool:
    """Whether a version is one of the task."""
    query = _of_task(tenant, task).with_only_columns(VersionRow.id).where(VersionRow.id == version)
    return (await session.scalars(query)).one_or_none() is not None


AT_ONCE = 500
"""Lapsed predictions that one transaction drops."""


async def add_predictions(session: AsyncSession, rows: Sequence[PredictionRow]) -> None:
    session.add_all(rows)
    await session.flush()


async def get_prediction(
    session: AsyncSession, tenant: str, prediction: str, *, lock: bool = False
) -> PredictionRow | None:
    """Locked until the end of the transaction, if wanted."""
    query = select(PredictionRow).where(PredictionRow.tenant == tenant, PredictionRow.id == prediction)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def drop_lapsed(session: AsyncSession, now: datetime) -> list[tuple[str, str]]:
    """Some of those that are over; pairs (tenant, blob) that they named. Empty when there are none."""
    lapsed = (
        select(PredictionRow.id)
        .where(PredictionRow.expires_at < now)
        .order_by(PredictionRow.expires_at)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    ids = list(await session.scalars(lapsed))
    gone = delete(PredictionRow).where(PredictionRow.id.in_(ids))
    rows = await session.execute(gone.returning(PredictionRow.tenant, PredictionRow.blob))
    return [(row[0], row[1]) for row in rows]
