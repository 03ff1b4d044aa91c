"""What is committed has its inputs, what fails leaves nothing, and blobs keep no other writer waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import new_id
from app.db.blobs import Blobs, digest
from app.db.engine import Database
from app.db.tables import TaskRow, VersionRow
from app.serving.engine import Engine
from app.tasks import garbage as garbage_module
from app.tasks import repository
from app.tasks.garbage import Collector
from app.tasks.repository import StoredExample
from app.tasks.weights import Restorer
from app.tasks.writer import Writer

BLOB = digest(b"x")


class SlowBlobs(Blobs):
    """Runs `during` while inputs are written."""

    during: Callable[[], Awaitable[None]] | None = None

    async def put_missing(self, tenant: str, blobs: Mapping[str, bytes], **how: Any) -> None:
        during, self.during = self.during, None
        if during is not None:
            await during()
        await super().put_missing(tenant, blobs, **how)


async def add_task(session: AsyncSession) -> None:
    task = TaskRow(id=new_id("task"), tenant="t", name=None, current=1)
    values = {"learner": "l", "learner_digest": "d", "seed": 1, "classes": ["a"], "shots": [1], "shape": [1]}
    version = VersionRow(id=new_id("ver"), tenant="t", task_id=task.id, number=1, **values)
    await repository.add_task(session, task, version, [StoredExample("a", "vector", BLOB)])


Test = Callable[[Database, SlowBlobs, Writer, Collector], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path, database_url: str) -> Callable[[Test], None]:
    async def with_stores(test: Test) -> None:
        database, blobs = Database(database_url), SlowBlobs.at(None, tmp_path)
        assert isinstance(blobs, SlowBlobs)
        garbage = Collector(database, blobs)
        try:
            with ThreadPoolExecutor(1) as pool:
                restorer = Restorer(database, blobs, Engine({}, arena_bytes=1 << 20), pool)
                await test(database, blobs, Writer(database, blobs, garbage, restorer), garbage)
        finally:
            await database.close()

    return lambda test: asyncio.run(with_stores(test))


async def names(blobs: Blobs) -> list[str]:
    return [name async for _, found in blobs.listed() for name in found]


def test_slow_blobs_keep_no_writer_waiting(run: Callable[[Test], None]) -> None:
    async def test(database: Database, blobs: SlowBlobs, writer: Writer, _: Collector) -> None:
        async def write() -> None:
            async with asyncio.timeout(1), database.write() as session:
                await add_task(session)

        blobs.during = write
        await writer.inputs("t", {BLOB: b"x"}, add_task)
        assert await names(blobs) == [BLOB]

    run(test)


def test_nobody_deletes_what_is_about_to_be_named(run: Callable[[Test], None]) -> None:
    """A collection that comes while inputs are written, or between that and the commit."""

    async def test(database: Database, blobs: SlowBlobs, writer: Writer, garbage: Collector) -> None:
        await blobs.put_missing("t", {BLOB: b"x"})
        collections: list[asyncio.Task[None]] = []

        async def collect() -> None:
            collections.append(asyncio.create_task(Collector(database, blobs).collect("t", [BLOB])))
            await asyncio.sleep(0.05)

        async def rows(session: AsyncSession) -> None:
            await collect()
            await add_task(session)

        blobs.during = collect
        await writer.inputs("t", {BLOB: b"x"}, rows)
        await asyncio.gather(*collections)
        await garbage.collect("t", [BLOB])
        assert await names(blobs) == [BLOB]

    run(test)


def test_a_large_deletion_lets_others_in(
    run: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes a task waits for some blobs to be deleted, not for all of a task of thousands."""
    monkeypatch.setattr(garbage_module, "AT_ONCE", 1)

    async def test(database: Database, blobs: SlowBlobs, writer: Writer, garbage: Collector) -> None:
        many = {digest(bytes([index])): bytes([index]) for index in range(4)}
        await blobs.put_missing("t", many)
        delete, waited = blobs.delete, asyncio.Event()

        async def slowly(*which: Any) -> None:
            waited.set()
            await asyncio.sleep(0.05)
            await delete(*which)

        monkeypatch.setattr(blobs, "delete", slowly)
        collecting = asyncio.create_task(garbage.collect("t", many))
        await waited.wait()
        await writer.inputs("t", {BLOB: b"x"}, add_task)
        assert not collecting.done()
        await collecting
        assert await names(blobs) == [BLOB]

    run(test)


def test_what_fails_leaves_nothing(run: Callable[[Test], None]) -> None:
    async def test(_: Database, blobs: SlowBlobs, writer: Writer, __: Collector) -> None:
        async def rows(session: AsyncSession) -> None:
            await add_task(session)
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011 (only what the rows raised)
            await writer.inputs("t", {BLOB: b"x"}, rows)
        assert await names(blobs) == []

    run(test)
