"""Blobs that no task holds go; those that one holds stay, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.ids import new_id
from app.db.base import now
from app.db.blobs import Blobs, digest
from app.db.engine import Database
from app.db.tables import PredictionRow, TaskRow, VersionRow
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
def run(tmp_path: Path, database_url: str) -> Callable[[Test], None]:
    """On each database."""

    async def with_stores(test: Test) -> None:
        database = Database(database_url)
        try:
            await test(database, Blobs.at(None, tmp_path))
        finally:
            await database.close()

    return lambda test: asyncio.run(with_stores(test))


async def names(blobs: Blobs) -> dict[str, list[str]]:
    return {tenant: sorted(found) async for tenant, found in blobs.listed()}


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


def test_lapsed_predictions_go_with_their_inputs(run: Callable[[Test], None]) -> None:
    """Not before their time, and not the inputs that an example has by then."""

    async def test(database: Database, blobs: Blobs) -> None:
        await blobs.put_missing("t", {KEPT: b"kept", ORPHAN: b"orphan"})
        task, _ = await add(database, "t", KEPT)
        values = {"tenant": "t", "task_id": task, "version": 1, "label": "a", "kind": "vector"}
        times = {ORPHAN: -1, KEPT: -1, digest(b"later"): 60}
        rows = [
            PredictionRow(
                id=new_id("pred"), blob=blob, expires_at=now() + timedelta(seconds=seconds), **values
            )
            for blob, seconds in times.items()
        ]
        async with database.write() as session:
            await repository.add_predictions(session, rows)
        collector = Collector(database, blobs)
        await collector.sweep()
        assert await names(blobs) == {"t": sorted((KEPT, ORPHAN))}, "predictions name their inputs"
        assert await collector.lapse() == 2
        assert await names(blobs) == {"t": [KEPT]}
        async with database.read() as session:
            assert await repository.get_prediction(session, "t", rows[2].id) is not None
            assert await repository.get_prediction(session, "u", rows[2].id) is None
        assert await collector.lapse() == 0

    run(test)


def test_many_lapse_in_turns(run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        task, _ = await add(database, "t", KEPT)
        values = {"tenant": "t", "task_id": task, "version": 1, "label": "a", "kind": "vector", "blob": KEPT}
        async with database.write() as session:
            rows = [PredictionRow(id=new_id("pred"), expires_at=now(), **values) for _ in range(7)]
            await repository.add_predictions(session, rows)
        assert await Collector(database, blobs).lapse() == 7

    monkeypatch.setattr(repository, "AT_ONCE", 3)
    run(test)
