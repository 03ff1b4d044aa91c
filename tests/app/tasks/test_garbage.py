"""Blobs that no task holds go; those that one holds stay, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.db.blobs import Blobs, digest
from app.db.engine import Database
from app.db.migrate import upgrade
from app.db.tables import TaskRow, VersionRow
from app.ids import new_id
from app.tasks import repository
from app.tasks.garbage import Collector
from app.tasks.repository import StoredExample

KEPT, ORPHAN = digest(b"kept"), digest(b"orphan")


async def add(database: Database, tenant: str, blob: str) -> tuple[str, str]:
    """Ids of a task that holds the blob, and of its version."""
    task = TaskRow(id=new_id("task"), tenant=tenant, name=None, current=1)
    values = {"learner": "l", "learner_digest": "d", "seed": 1, "classes": ["a"], "shots": [1], "shape": [1]}
    version = VersionRow(id=new_id("ver"), tenant=tenant, task_id=task.id, number=1, **values)
    async with database.write() as session:
        await repository.add_task(session, task, version, [StoredExample("a", "vector", blob)])
    return task.id, version.id


Test = Callable[[Database, Blobs], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Test], None]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    upgrade(url)

    async def with_stores(test: Test) -> None:
        database = Database(url)
        try:
            await test(database, Blobs.at(None, tmp_path))
        finally:
            await database.close()

    return lambda test: asyncio.run(with_stores(test))


async def names(blobs: Blobs) -> dict[str, list[str]]:
    return {tenant: found async for tenant, found in blobs.listed()}


def test_sweep_finds_what_a_killed_process_left(run: Callable[[Test], None]) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        await blobs.put_missing("t", {KEPT: b"kept", ORPHAN: b"orphan"})
        _, version = await add(database, "t", KEPT)
        await blobs.put_features("d", version, b"x")
        await blobs.put_features("d", "ver_gone", b"x")
        await Collector(database, blobs).sweep()
        assert await names(blobs) == {"t": [KEPT]}
        assert [pairs async for pairs in blobs.listed_features()] == [[("d", version)]]

    run(test)


def test_tenants_hold_their_own(run: Callable[[Test], None]) -> None:
    """One tenant's example keeps no blob of another's."""

    async def test(database: Database, blobs: Blobs) -> None:
        for tenant in ("t", "u"):
            await blobs.put_missing(tenant, {KEPT: b"kept"})
        await add(database, "t", KEPT)
        await Collector(database, blobs).sweep()
        assert await names(blobs) == {"t": [KEPT]}

    run(test)


def test_tenants_see_their_own(run: Callable[[Test], None]) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        task, version = await add(database, "t", KEPT)
        async with database.read() as session:
            assert await repository.get_current(session, "t", task) is not None
            assert await repository.get_current(session, "u", task) is None
            assert await repository.ways_of_tasks(session, "u", None, 10) == []
            assert await repository.list_current(session, "u", [task]) == []
            assert await repository.get_examples(session, "u", version) == []
        async with database.write() as session:
            assert await repository.remove_task(session, "u", task) is None
            removed = await repository.remove_task(session, "t", task)
        assert removed is not None
        assert (removed.versions, removed.blobs) == ([("d", version)], {KEPT})

    run(test)


def test_what_a_failure_left_is_retried(run: Callable[[Test], None], tmp_path: Path) -> None:
    """Whatever kept blobs from being deleted, the next collection of their tenant has them."""

    async def test(database: Database, blobs: Blobs) -> None:
        await blobs.put_missing("t", {ORPHAN: b"orphan"})
        collector = Collector(database, blobs)
        file = next(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
        file.unlink()
        file.mkdir()
        with pytest.raises(Exception, match=ORPHAN):
            await collector.collect("t", [ORPHAN])
        file.rmdir()
        file.write_bytes(b"orphan")
        await collector.collect("t", ())
        assert await names(blobs) == {}

    run(test)
