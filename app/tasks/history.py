"""Versions of a task and their examples in the database. Every function sees the rows of one tenant alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, and_, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.tables import ExampleRow, TaskRow, VersionExampleRow, VersionRow
from app.tasks.repository import StoredExample
from app.tasks.support import Aim
from hyperserve.types import Example
from models.artifact import Artifact


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
