"""Blobs that no row names are deleted; those that a row names stay, whoever collects and whenever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.core.ids import new_id
from app.db import blob_collector
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs, digest
from app.db.database import Database
from app.db.tables import TaskRow, VersionRow
from app.db.tenancy import Store, TenantSession
from app.tasks import repository
from app.tasks.repository import FEATURES, INPUTS, StoredExample
from tests.app.stores import store_of

KEPT, ORPHAN, BLOB = digest(b"kept"), digest(b"orphan"), digest(b"x")


async def add(database: Database, tenant: str, blob: str) -> tuple[str, str]:
    """Ids of a task that holds the blob, and of its version."""
    async with store_of(database, tenant).write() as session:
        return await add_task(session, blob)


async def add_task(session: TenantSession, blob: str = BLOB) -> tuple[str, str]:
    task = TaskRow(id=new_id("task"), name=None, current=1)
    values = {"learner": "l", "learner_digest": "d", "seed": 1, "classes": ["a"], "shots": [1], "shape": [1]}
    version = VersionRow(id=new_id("ver"), task_id=task.id, number=1, **values)
    example = StoredExample(0, new_id("ex"), "a", "vector", blob)
    await repository.add_task(session, task, version, [example])
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


async def sweep(database: Database, blobs: Blobs) -> None:
    collector = BlobCollector(database, blobs)
    await collector.sweep(INPUTS)
    await collector.sweep_cache(FEATURES)


async def names(blobs: Blobs) -> dict[str, list[str]]:
    return {tenant: sorted(found) async for tenant, found in blobs.listed()}


def test_sweep_finds_what_a_killed_process_left(run: Callable[[Test], None]) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        await blobs.put_missing("t", {KEPT: b"kept", ORPHAN: b"orphan"})
        _, version = await add(database, "t", KEPT)
        await blobs.put_features("d", version, b"x")
        await blobs.put_features("d", "ver_gone", b"x")
        await sweep(database, blobs)
        assert await names(blobs) == {"t": [KEPT]}
        assert [pairs async for pairs in blobs.listed_features()] == [[("d", version)]]

    run(test)


def test_tenants_hold_their_own(run: Callable[[Test], None]) -> None:
    """One tenant's example keeps no blob of another's."""

    async def test(database: Database, blobs: Blobs) -> None:
        for tenant in ("t", "u"):
            await blobs.put_missing(tenant, {KEPT: b"kept"})
        await add(database, "t", KEPT)
        await sweep(database, blobs)
        assert await names(blobs) == {"t": [KEPT]}

    run(test)


def test_what_a_failure_left_is_retried(
    run: Callable[[Test], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever kept blobs from being deleted, the next collection of their tenant has them."""

    async def test(database: Database, blobs: Blobs) -> None:
        await blobs.put_missing("t", {ORPHAN: b"orphan"})
        collector = BlobCollector(database, blobs)
        file = next(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
        file.unlink()
        file.mkdir()
        with caplog.at_level("WARNING", "hyperserve"):
            await collector.collect("t", INPUTS, [ORPHAN])
        assert ORPHAN in caplog.text
        file.rmdir()
        file.write_bytes(b"orphan")
        await collector.retry()
        assert await names(blobs) == {}

    run(test)


class SlowBlobs(Blobs):
    """A store that runs `during` while blobs are written."""

    during: Callable[[], Awaitable[None]] | None = None

    async def put_files(self, files: Mapping[str, bytes], **how: Any) -> None:
        during, self.during = self.during, None
        if during is not None:
            await during()
        await super().put_files(files, **how)


Writing = Callable[[Store, SlowBlobs, BlobCollector], Awaitable[None]]


@pytest.fixture
def run_writing(tmp_path: Path, database_url: str) -> Callable[[Writing], None]:
    """On each database, with inputs that are written slowly."""

    async def with_stores(test: Writing) -> None:
        database, blobs = Database(database_url), SlowBlobs.at(None, tmp_path)
        assert isinstance(blobs, SlowBlobs)
        try:
            await test(Store("t", database, blobs), blobs, BlobCollector(database, blobs))
        finally:
            await database.close()

    return lambda test: asyncio.run(with_stores(test))


def test_slow_blobs_keep_no_writer_waiting(run_writing: Callable[[Writing], None]) -> None:
    async def test(store: Store, blobs: SlowBlobs, collector: BlobCollector) -> None:
        async def write() -> None:
            async with asyncio.timeout(1), store.write() as session:
                await add_task(session)

        blobs.during = write
        await collector.write(store, INPUTS, {BLOB: b"x"}, add_task)
        assert await names(blobs) == {"t": [BLOB]}

    run_writing(test)


def test_nobody_deletes_what_is_about_to_be_named(run_writing: Callable[[Writing], None]) -> None:
    """A collection that comes while inputs are written, or between that and the commit."""

    async def test(store: Store, blobs: SlowBlobs, collector: BlobCollector) -> None:
        await blobs.put_missing("t", {BLOB: b"x"})
        collections: list[asyncio.Task[None]] = []

        async def collect() -> None:
            collections.append(
                asyncio.create_task(BlobCollector(store.database, blobs).collect("t", INPUTS, [BLOB]))
            )
            await asyncio.sleep(0.05)

        async def rows(session: TenantSession) -> None:
            await collect()
            await add_task(session)

        blobs.during = collect
        await collector.write(store, INPUTS, {BLOB: b"x"}, rows)
        await asyncio.gather(*collections)
        await collector.collect("t", INPUTS, [BLOB])
        assert await names(blobs) == {"t": [BLOB]}

    run_writing(test)


def test_a_large_deletion_lets_others_in(
    run_writing: Callable[[Writing], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes a task waits for some blobs to be deleted, not for all of a task of thousands."""
    monkeypatch.setattr(blob_collector, "AT_ONCE", 1)

    async def test(store: Store, blobs: SlowBlobs, collector: BlobCollector) -> None:
        many = {digest(bytes([index])): bytes([index]) for index in range(4)}
        await blobs.put_missing("t", many)
        delete, waited = blobs.delete_files, asyncio.Event()

        async def slowly(*which: Any) -> None:
            waited.set()
            await asyncio.sleep(0.05)
            await delete(*which)

        monkeypatch.setattr(blobs, "delete_files", slowly)
        collecting = asyncio.create_task(collector.collect("t", INPUTS, many))
        await waited.wait()
        await collector.write(store, INPUTS, {BLOB: b"x"}, add_task)
        assert not collecting.done()
        await collecting
        assert await names(blobs) == {"t": [BLOB]}

    run_writing(test)


def test_what_fails_leaves_nothing(run_writing: Callable[[Writing], None]) -> None:
    async def test(store: Store, blobs: SlowBlobs, collector: BlobCollector) -> None:
        async def rows(session: TenantSession) -> None:
            await add_task(session)
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011 (only what the rows raised)
            await collector.write(store, INPUTS, {BLOB: b"x"}, rows)
        assert await names(blobs) == {}

    run_writing(test)
