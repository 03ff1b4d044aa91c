"""A disk that becomes full stops creations with some room left, and deletions go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import delete, event, text

from app.core.ids import new_id
from app.db import free_space
from app.db.blobs import Blobs, BlobStoreBusyError, BlobStoreError, BlobStoreFullError, _store_errors, digest
from app.db.database import Database
from app.db.errors import DatabaseFullError
from app.db.free_space import SPARE_BYTES, SpareRoom, is_low
from app.db.tables import TaskRow
from tests.servers.postgres import Databases

DATA = b"data"
RAISE = "DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$"
Disk = Callable[[int, int], None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Set the free bytes and the size of every disk."""

    def set_space(free: int, size: int) -> None:
        found = SimpleNamespace(f_bavail=free, f_blocks=size, f_frsize=1)
        monkeypatch.setattr("app.db.free_space.os.statvfs", lambda _folder: found)

    return set_space


@pytest.mark.parametrize(
    ("free", "size", "low"),
    [
        (63 << 20, 1 << 40, True),
        (65 << 20, 1 << 40, False),
        (0, 1 << 40, True),
        (5 << 20, 100 << 20, True),
        (15 << 20, 100 << 20, False),
        (0, 0, False),
    ],
)
def test_low_is_64_mib_or_a_tenth(disk: Disk, free: int, size: int, low: bool) -> None:
    disk(free, size)
    assert is_low(Path("/")) is low


def test_a_missing_folder_is_not_low(tmp_path: Path) -> None:
    assert not is_low(tmp_path / "none")


def test_spare_room_is_given_up_and_taken_back(disk: Disk, tmp_path: Path) -> None:
    file = tmp_path / "x.db.spare"
    room = SpareRoom(tmp_path / "x.db")
    disk(1 << 40, 1 << 41)
    room.adjust()
    assert file.stat().st_size == SPARE_BYTES
    assert file.stat().st_blocks * 512 >= SPARE_BYTES, "blocks are allocated"
    disk(SPARE_BYTES, 1 << 41)
    room.adjust()
    assert file.exists(), "there is room enough for deletions"
    disk(0, 1 << 41)
    room.adjust()
    assert not file.exists()
    disk(SPARE_BYTES, 1 << 41)
    room.adjust()
    assert not file.exists(), "only when there is much room again"
    disk(1 << 40, 1 << 41)
    room.adjust()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_blobs_are_refused_with_some_room_left(disk: Disk, tmp_path: Path) -> None:
    """Features are left out without an error; what is there already can be read, written again and deleted."""

    async def run() -> None:
        blobs = Blobs.at(None, tmp_path)
        await blobs.put_missing("t", {digest(DATA): DATA})
        disk(0, 1 << 40)
        with pytest.raises(BlobStoreFullError):
            await blobs.put_missing("t", {digest(b"more"): b"more"})
        with (tmp_path / "upload").open("w+b") as file, pytest.raises(BlobStoreFullError):
            await blobs.put_file("datasets/t/x", file)
        await blobs.put_features("learner", "ver_1", DATA)
        assert await blobs.get_features("learner", "ver_1") is None
        await blobs.put_missing("t", {digest(DATA): DATA})
        assert await blobs.get("t", [digest(DATA)]) == [DATA]
        await blobs.delete("t", [digest(DATA)])
        assert [found async for found in blobs.listed()] == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (OSError(28, "No space left on device"), BlobStoreFullError),
        (OSError(122, "Disk quota exceeded"), BlobStoreFullError),
        (OSError("Generic error: Unable to copy: No space left on device (os error 28)"), BlobStoreFullError),
        (OSError(24, "Too many open files"), BlobStoreBusyError),
        (OSError("Generic error: Unable to open file: (os error 23)"), BlobStoreBusyError),
        (OSError(5, "Input/output error"), BlobStoreError),
    ],
)
def test_errors_of_the_store(raised: OSError, error: type[Exception]) -> None:
    with pytest.raises(BlobStoreError) as caught, _store_errors():
        raise raised
    assert type(caught.value) is error


def test_a_full_database_takes_deletions(empty_database: Path, tmp_path: Path) -> None:
    """`max_page_count` is to SQLite what a full disk is."""
    (tmp_path / "x.db").write_bytes(empty_database.read_bytes())

    async def fill(database: Database, rows: int) -> None:
        async with database.write() as session:
            for _ in range(rows):
                session.add(TaskRow(id=new_id("task"), tenant="t", name="x" * 200, current=1))

    async def run() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
        event.listen(database.engine.sync_engine, "connect", _limit)
        await fill(database, 1_000)
        with pytest.raises(DatabaseFullError):
            await fill(database, 10_000)
        async with database.write() as session:
            await session.execute(delete(TaskRow))
        await fill(database, 1_000)
        await database.close()

    asyncio.run(run())


def _limit(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA max_page_count = 400")
    cursor.close()


def test_a_full_disk_of_postgresql(databases: Databases) -> None:
    async def run() -> None:
        database = Database(databases.migrated())
        with pytest.raises(DatabaseFullError):
            async with database.write() as session:
                await session.execute(text(RAISE))
        await database.close()

    asyncio.run(run())


def test_the_real_size_of_a_disk_is_read(tmp_path: Path) -> None:
    free, reserve = free_space._space(tmp_path)
    assert 0 < free <= os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert 0 < reserve <= free_space.RESERVE_BYTES
