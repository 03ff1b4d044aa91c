"""A tenant's session sees, changes and adds rows of that tenant alone, whatever the statement forgets to say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import delete, exists, func, insert, literal, select, union_all, update
from sqlalchemy.orm import aliased

from app.db.base import Base
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.tables import LearnerRow, StreamRow, TaskRow
from app.db.tenancy import ForeignTenantError, Store, TenantSession
from tests.app.stores import store_of

OURS, THEIRS = "ours", "theirs"
Story = Callable[[Store, Store], Awaitable[None]]


@pytest.fixture
def run(database_url: str) -> Callable[[Story], None]:
    """Run a story with the stores of two tenants, each of which has a task, a learner and a stream."""

    async def with_stores(story: Story) -> None:
        database = Database(database_url)
        stores = store_of(database, OURS), store_of(database, THEIRS)
        try:
            for store in stores:
                async with store.write() as session:
                    session.add_all(rows(store.tenant))
            await story(*stores)
        finally:
            await database.close()

    return lambda story: asyncio.run(with_stores(story))


def rows(tenant: str) -> Iterator[Base]:
    yield TaskRow(id=f"task_{tenant}", name="same", current=1, revision=1)
    yield LearnerRow(id=f"lrn_{tenant}", name="same", method="hyperset", status="training")
    yield StreamRow(
        id=f"strm_{tenant}",
        name="same",
        config={},
        current=None,
        latest=0,
        alarm_drift=1,
        alarm_fall=1,
        revision=1,
    )


ROWS = [TaskRow, LearnerRow, StreamRow]
OTHER = aliased(TaskRow)
FORGETFUL: dict[str, Callable[[Any], Any]] = {
    "entities": lambda row: select(row.id, row.tenant),
    "columns": lambda row: select(row.tenant),
    "by name": lambda row: select(row.tenant).where(row.name == "same"),
    "distinct": lambda row: select(row.tenant).distinct(),
    "joined": lambda row: select(row.tenant, OTHER.tenant).join(OTHER, OTHER.name == row.name),
    "in a subquery": lambda row: select(select(row.tenant).subquery()),
    "a union": lambda row: union_all(select(row.tenant), select(row.tenant)),
    "where another exists": lambda row: select(row.tenant).where(exists().where(OTHER.name == row.name)),
    "updated": lambda row: update(row).values(name="new").returning(row.tenant),
    "deleted": lambda row: delete(row).returning(row.tenant),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("kind", FORGETFUL)
def test_a_statement_without_a_tenant_meets_rows_of_its_session_alone(
    run: Callable[[Story], None], row: type[Base], kind: str
) -> None:
    async def story(ours: Store, theirs: Store) -> None:
        async with ours.write() as session:
            found = {value for line in await session.execute(FORGETFUL[kind](row)) for value in line}
        assert THEIRS not in found, f"{kind}: a row of another tenant came back"
        assert found & {OURS, f"task_{OURS}", f"lrn_{OURS}", f"strm_{OURS}"}, f"{kind}: its own row did not"
        async with theirs.read() as session:
            assert list(await session.scalars(select(row.name))) == ["same"], f"{kind}: another's row changed"

    run(story)


@pytest.mark.parametrize("row", ROWS)
def test_counts_and_lookups_do_not_see_another_tenant(run: Callable[[Story], None], row: Any) -> None:
    async def story(ours: Store, theirs: Store) -> None:
        async with theirs.read() as session:
            foreign = (await session.scalars(select(row.id))).one()
        async with ours.read() as session:
            assert await session.scalar(select(func.count()).select_from(row)) == 1
            assert not await session.scalar(select(exists().where(row.id == foreign)))
            assert await session.get(row, foreign) is None

    run(story)


def test_rows_that_are_added_become_the_tenants(run: Callable[[Story], None]) -> None:
    async def story(ours: Store, theirs: Store) -> None:
        async with ours.write() as session:
            values = {"id": "task_inserted", "name": None, "current": 1, "revision": 1, "tenant": THEIRS}
            await session.execute(insert(TaskRow).values(values))
            session.add(TaskRow(id="task_added", current=1, revision=1))
        async with ours.read() as session:
            assert {"task_inserted", "task_added"} <= set(await session.scalars(select(TaskRow.id)))
        async with theirs.read() as session:
            assert set(await session.scalars(select(TaskRow.id))) == {f"task_{THEIRS}"}

    run(story)


def test_rows_that_are_copied_are_the_tenants_and_become_so(run: Callable[[Story], None]) -> None:
    async def story(ours: Store, theirs: Store) -> None:
        columns = literal("copy of ").concat(TaskRow.id).label("id"), TaskRow.current, TaskRow.revision
        copied = select(*columns, TaskRow.created_at)
        names = ["id", "current", "revision", "created_at"]
        async with ours.write() as session:
            await session.execute(insert(TaskRow).from_select(names, copied))
        async with ours.read() as session:
            found = set(await session.scalars(select(TaskRow.id)))
            assert found == {f"task_{OURS}", f"copy of task_{OURS}"}
        async with theirs.read() as session:
            assert set(await session.scalars(select(TaskRow.id))) == {f"task_{THEIRS}"}

    run(story)


def test_a_row_of_another_tenant_is_refused(run: Callable[[Story], None]) -> None:
    async def story(ours: Store, theirs: Store) -> None:
        async def add() -> None:
            async with ours.write() as session:
                session.add(TaskRow(id="task_foreign", tenant=THEIRS, current=1, revision=1))

        with pytest.raises(ForeignTenantError):
            await add()
        async with theirs.read() as session:
            assert await session.get(TaskRow, "task_foreign") is None

    run(story)


def test_every_table_belongs_to_tenants() -> None:
    assert all("tenant" in table.columns for table in Base.metadata.tables.values())


def test_sessions_over_all_tenants_see_all(run: Callable[[Story], None]) -> None:
    async def story(ours: Store, theirs: Store) -> None:
        async with ours.database.read() as session:
            assert not isinstance(session, TenantSession)
            assert set(await session.scalars(select(TaskRow.tenant))) == {OURS, THEIRS}

    run(story)


def test_blobs_and_files_of_tenants_are_apart(tmp_path: Any) -> None:
    async def story() -> None:
        blobs, nothing = Blobs.at(None, tmp_path), None
        ours, theirs = (Store(tenant, nothing, blobs) for tenant in (OURS, THEIRS))  # type: ignore[arg-type]
        await ours.files("datasets").put_all({"a": b"1"})
        assert await ours.files("datasets").has("a")
        assert not await theirs.files("datasets").has("a")
        await theirs.files("datasets").delete(["a"])
        assert await ours.files("datasets").get("a") == b"1"

    asyncio.run(story())
