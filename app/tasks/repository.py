"""Tasks, their versions and stored predictions in the database. A session sees the rows of its tenant alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, and_, delete, func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import is_id
from app.db.blob_collector import BlobFolder, CacheFolder
from app.db.blobs import RAW, raw_path
from app.db.tables import ExampleRow, PredictionRow, TaskRow, VersionExampleRow, VersionRow
from app.db.tenancy import TenantSession
from app.http.problems import ProblemError, fail
from app.payloads.support import GroundTruth
from hyperserve.types import Example
from models.artifact import Artifact

LAPSED_AT_ONCE = 500
"""Lapsed predictions that one transaction drops."""
_CHUNK = 500


@dataclass(frozen=True)
class StoredExample:
    """An example at its position in a support set. Positions grow; they may leave gaps."""

    position: int
    id: str
    label: str
    kind: str
    blob: str
    prediction: str | None = None
    """The stored prediction whose query it is, even if its label or target has changed since."""
    target: Sequence[float] | None = None

    @property
    def truth(self) -> GroundTruth:
        return GroundTruth(self.label, None if self.target is None else tuple(self.target))


@dataclass(frozen=True)
class RemovedTask:
    """The remains of a deleted task outside the database."""

    versions: list[tuple[str, str]]
    """Learner digest and version id."""
    blobs: set[str]
    revision: int
    """The last revision of the task."""


def task_not_found() -> ProblemError:
    return fail("task_not_found", "There is no such task.")


async def add_task(
    session: TenantSession, task: TaskRow, version: VersionRow, examples: Sequence[StoredExample]
) -> None:
    """Add a task with its first version and that version's examples."""
    session.add(task)
    await session.flush()
    session.add(version)
    await session.flush()
    await _add_examples(session, version, examples)


async def get_current(session: TenantSession, task: str) -> tuple[TaskRow, VersionRow] | None:
    """Return a task and its current version."""
    return _pair((await session.execute(_current().where(TaskRow.id == task))).one_or_none())


async def find_version(
    session: TenantSession, task: str, number: int | None = None
) -> tuple[TaskRow, VersionRow]:
    """Return a task and one of its versions, by default the current one. Raises `ProblemError` 404."""
    found = await get_current(session, task) if is_id(task, "task") else None
    if found is None:
        raise task_not_found()
    if number is not None:
        found = await get_version(session, task, number)
    if found is None:
        raise fail("version_not_found", "The task has no such version.", "/version")
    return found


async def class_counts_of_tasks(
    session: TenantSession, before: str | None, limit: int
) -> list[tuple[str, int]]:
    """Return ids of tasks and how many classes each has, newest first, starting after the task `before`."""
    query = (
        _current()
        .with_only_columns(TaskRow.id, func.json_array_length(VersionRow.shots))
        .order_by(TaskRow.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(TaskRow.id < before)
    return [(row[0], row[1]) for row in await session.execute(query)]


async def list_current(session: TenantSession, ids: Sequence[str]) -> list[tuple[TaskRow, VersionRow]]:
    """Return tasks and their current versions, newest first."""
    query = _current().where(TaskRow.id.in_(ids)).order_by(TaskRow.id.desc())
    return [(row[0], row[1]) for row in await session.execute(query)]


async def lock_task(session: TenantSession, task: str) -> TaskRow | None:
    """Return a task, which nobody else can change until the end of the transaction."""
    query = select(TaskRow).where(TaskRow.id == task).with_for_update()
    return (await session.scalars(query)).one_or_none()


async def hold_task(session: TenantSession, task: str) -> None:
    """Keep a task from being deleted until the end of the transaction. Raises `ProblemError` 404."""
    query = select(TaskRow.id).where(TaskRow.id == task).with_for_update(read=True, key_share=True)
    if (await session.scalars(query)).one_or_none() is None:
        raise task_not_found()


async def remove_task(session: TenantSession, task: str) -> RemovedTask | None:
    """Delete a task with all its rows. Returns None if there is no such task."""
    # Locked first: a version that is being written lands before it is looked for, or not at all.
    known = select(TaskRow.revision).where(TaskRow.id == task).with_for_update()
    revision = (await session.scalars(known)).one_or_none()
    if revision is None:
        return None
    query = select(VersionRow.learner_digest, VersionRow.id).where(VersionRow.task_id == task)
    versions = [(row[0], row[1]) for row in await session.execute(query)]
    blobs: set[str] = set()
    for row in (ExampleRow, PredictionRow):
        blobs |= set(await session.scalars(select(row.blob).where(row.task_id == task)))
    await session.execute(delete(TaskRow).where(TaskRow.id == task))
    return RemovedTask(versions, blobs, revision)


def _current() -> Select[TaskRow, VersionRow]:
    return select(TaskRow, VersionRow).join(
        VersionRow, (VersionRow.task_id == TaskRow.id) & (VersionRow.number == TaskRow.current)
    )


def _pair(row: Row[TaskRow, VersionRow] | None) -> tuple[TaskRow, VersionRow] | None:
    return None if row is None else (row[0], row[1])


async def get_version(session: TenantSession, task: str, number: int) -> tuple[TaskRow, VersionRow] | None:
    """Return a task and one of its versions."""
    query = (
        select(TaskRow, VersionRow)
        .join(VersionRow, VersionRow.task_id == TaskRow.id)
        .where(TaskRow.id == task, VersionRow.number == number)
    )
    return _pair((await session.execute(query)).one_or_none())


async def class_counts_of_versions(
    session: TenantSession, task: str, before: str | None, limit: int
) -> list[tuple[str, int]]:
    """Return ids of versions and how many classes each has, newest first, starting after the version `before`."""
    query = (
        select(VersionRow.id, func.json_array_length(VersionRow.shots))
        .where(VersionRow.task_id == task)
        .order_by(VersionRow.number.desc())
        .limit(limit)
    )
    if before is not None:
        last = select(VersionRow.number).where(VersionRow.id == before, VersionRow.task_id == task)
        query = query.where(VersionRow.number < last.scalar_subquery())
    return [(row[0], row[1]) for row in await session.execute(query)]


async def list_versions(session: TenantSession, ids: Sequence[str]) -> list[VersionRow]:
    """Return versions of one task, newest first."""
    query = select(VersionRow).where(VersionRow.id.in_(ids)).order_by(VersionRow.number.desc())
    return list(await session.scalars(query))


async def has_version(session: TenantSession, task: str, version: str) -> bool:
    """Return whether a version, by its id, is one of the task."""
    query = select(VersionRow.id).where(VersionRow.task_id == task, VersionRow.id == version)
    return (await session.scalars(query)).one_or_none() is not None


async def known_versions(session: AsyncSession, versions: Collection[str]) -> set[str]:
    """Return those of the ids that are in the database; in a session over all tenants, those of any tenant."""
    return set(await session.scalars(select(VersionRow.id).where(VersionRow.id.in_(versions))))


async def next_number(session: TenantSession, task: TaskRow) -> int:
    """Return the number of the next version of a task that is locked."""
    query = select(func.max(VersionRow.number)).where(VersionRow.task_id == task.id)
    return (await session.scalars(query)).one() + 1


async def add_version(
    session: TenantSession,
    version: VersionRow,
    base: VersionRow,
    *,
    dropped: str | None = None,
    added: Sequence[StoredExample] = (),
) -> None:
    """Add a version that has the examples of another one without the one dropped, and new examples."""
    session.add(version)
    await session.flush()
    row = VersionExampleRow
    source = select(literal(version.id).label("version_id"), row.position, row.example_id)
    source = source.where(row.version_id == base.id)
    if dropped is not None:
        source = source.where(row.example_id != dropped)
    await session.execute(insert(row).from_select(["version_id", "position", "example_id"], source))
    if added:
        await _add_examples(session, version, added)


async def find_twin(session: TenantSession, version: VersionRow, artifact: Artifact) -> VersionRow | None:
    """Return the newest version with the same examples that was made by this learner."""
    query = select(VersionRow).where(
        VersionRow.task_id == version.task_id,
        VersionRow.learner == artifact.name,
        VersionRow.learner_digest == artifact.digest,
        VersionRow.seed == version.seed,
    )
    for row in await session.scalars(query.order_by(VersionRow.number.desc())):
        if row.shots == version.shots and await same_examples(session, row.id, version.id):
            return row
    return None


async def same_examples(session: TenantSession, version: str, other: str) -> bool:
    """Return whether two versions with the same number of examples have the same examples."""
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


async def get_examples(session: TenantSession, version: str) -> tuple[StoredExample, ...]:
    """Return all examples of a version, in order."""
    row = ExampleRow
    query = (
        select(VersionExampleRow.position, row.id, row.label, row.kind, row.blob, row.prediction, row.target)
        .join(VersionExampleRow, VersionExampleRow.example_id == row.id)
        .where(VersionExampleRow.version_id == version)
        .order_by(VersionExampleRow.position)
    )
    return tuple(StoredExample(*found) for found in await session.execute(query))


async def page_examples(
    session: TenantSession, version: str, after: int, limit: int
) -> list[tuple[int, Example]]:
    """Return examples of a version behind a position, with their positions."""
    query = (
        select(VersionExampleRow.position, ExampleRow)
        .join(ExampleRow, VersionExampleRow.example_id == ExampleRow.id)
        .where(VersionExampleRow.version_id == version, VersionExampleRow.position > after)
        .order_by(VersionExampleRow.position)
        .limit(limit)
    )
    return [(position, _example(row)) for position, row in await session.execute(query)]


def _example(row: ExampleRow) -> Example:
    example = Example.model_validate(row, from_attributes=True)
    return example if row.target is None else example.model_copy(update={"label": None})


async def _add_examples(
    session: TenantSession, version: VersionRow, examples: Sequence[StoredExample]
) -> None:
    names = ("id", "label", "kind", "blob", "prediction", "target")
    rows = [
        {"task_id": version.task_id} | {name: getattr(example, name) for name in names}
        for example in examples
    ]
    await session.execute(insert(ExampleRow), rows)
    places = [
        {"version_id": version.id, "position": example.position, "example_id": example.id}
        for example in examples
    ]
    await session.execute(insert(VersionExampleRow), places)


async def add_predictions(session: TenantSession, rows: Sequence[PredictionRow]) -> None:
    session.add_all(rows)
    await session.flush()


async def get_prediction(
    session: TenantSession, prediction: str, *, lock: bool = False
) -> PredictionRow | None:
    """Return a stored prediction; with `lock`, locked until the end of the transaction."""
    query = select(PredictionRow).where(PredictionRow.id == prediction)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def drop_lapsed(session: AsyncSession, now: datetime) -> list[tuple[str, str]]:
    """Drop some of the lapsed predictions of all tenants.

    Returns the pairs (tenant, blob) that they named; an empty list if none has lapsed.
    """
    lapsed = (
        select(PredictionRow.id)
        .where(PredictionRow.expires_at < now)
        .order_by(PredictionRow.expires_at)
        .limit(LAPSED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    ids = list(await session.scalars(lapsed))
    gone = delete(PredictionRow).where(PredictionRow.id.in_(ids))
    rows = await session.execute(gone.returning(PredictionRow.tenant, PredictionRow.blob))
    return [(row[0], row[1]) for row in rows]


async def unreferenced(session: TenantSession, blobs: Collection[str]) -> set[str]:
    """Return the blobs that no example and no prediction names."""
    left = set(blobs)
    names = sorted(left)
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        for row in (ExampleRow, PredictionRow):
            query = select(row.blob).where(row.blob.in_(chunk)).distinct()
            left -= set(await session.scalars(query))
    return left


INPUTS = BlobFolder(
    RAW,
    unreferenced,
    paths=lambda digest: (raw_path(digest),),
    blob_of=lambda path: path.rpartition("/")[2],
)
"""Raw inputs of examples and predictions."""
FEATURES = CacheFolder("features", known_versions)
"""Features of versions, by learner digest and version id."""
