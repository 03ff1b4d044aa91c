"""There and back: from each database to each, whole or not at all."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text

from app.db.blobs import Blobs, digest
from app.db.database import Database
from app.db.migrate import upgrade
from app.db.tables import DatasetRow, ExampleRow, TaskRow
from app.maintenance.backup_format import BackupError
from app.maintenance.backup_reader import restore
from app.maintenance.backup_writer import backup
from tests.app.maintenance.stock import INPUT, contents, count, fill, paths
from tests.servers.postgres import Databases

PASSING = ("changes", "idempotency")


@pytest.fixture
def target(tmp_path: Path) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path / 'target.db'}"
    upgrade(url)
    return url


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Write a backup of a SQLite service with one of everything."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'source.db'}"
    upgrade(url)

    async def write() -> None:
        database, blobs = Database(url), Blobs.at(None, tmp_path / "source")
        await fill(database, blobs)
        await backup(database, blobs, tmp_path / "x.tar")
        await database.close()

    asyncio.run(write())
    return tmp_path / "x.tar"


def restored(url: str, source: Path, data_dir: Path) -> tuple[dict[str, list[Any]], dict[str, bytes]]:
    async def read() -> tuple[dict[str, list[Any]], dict[str, bytes]]:
        database, blobs = Database(url), Blobs.at(None, data_dir)
        try:
            await restore(database, blobs, source)
            return await contents(database), await paths(blobs)
        finally:
            await database.close()

    return asyncio.run(read())


def changed(archive: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """A copy in which members are other than they were; None leaves one out."""
    copy = archive.with_name("changed.tar")
    with tarfile.open(archive) as source, tarfile.open(copy, "w", format=tarfile.PAX_FORMAT) as target:
        for member in source:
            file = source.extractfile(member)
            assert file is not None
            data = change(member.name, file.read())
            if data is not None:
                member.size = len(data)
                target.addfile(member, io.BytesIO(data))
    return copy


def test_there_and_back(run: Callable[..., None], target: str, tmp_path: Path) -> None:
    """From either database; rows and blobs are what they were."""

    async def test(database: Database, blobs: Blobs) -> None:
        manifest = await backup(database, blobs, tmp_path / "x.tar")
        assert (manifest.blobs, manifest.rows["tasks"], manifest.rows["streams"]) == (9, 1, 1)
        before = await contents(database), await paths(blobs)
        found = await asyncio.to_thread(restored, target, tmp_path / "x.tar", tmp_path / "restored")
        for name in PASSING:
            assert found[0].pop(name) == []
            before[0].pop(name)
        assert found == before

    run(test)


def test_from_sqlite_to_postgresql(archive: Path, databases: Databases, target: str, tmp_path: Path) -> None:
    there = restored(databases.migrated(), archive, tmp_path / "one")
    assert there == restored(target, archive, tmp_path / "two")
    assert len(there[0]["examples"]) == 1


def test_beside_a_server_that_deletes(run: Callable[..., None], tmp_path: Path) -> None:
    """A blob that goes between reading its row and reading it: another moment is taken, without its row."""

    async def test(database: Database, blobs: Blobs) -> None:
        class Deleting(Blobs):
            async def fetch_file(self, path: str, target: Path) -> None:
                if path.startswith("raw/") and await count(database, ExampleRow):
                    async with database.write() as session:
                        await session.execute(delete(TaskRow))
                    for some in [some async for some in blobs.listed_files("raw/")]:
                        await blobs.delete_files(some)
                await super().fetch_file(path, target)

        manifest = await backup(database, Deleting(blobs._store), tmp_path / "x.tar")
        assert (manifest.rows["tasks"], manifest.rows["examples"], manifest.rows["datasets"]) == (0, 0, 1)

    run(test)


def test_a_lost_blob_is_told(run: Callable[..., None], tmp_path: Path) -> None:
    async def test(database: Database, blobs: Blobs) -> None:
        await blobs.delete("t", [digest(INPUT)])
        with pytest.raises(BackupError, match="missing from the store"):
            await backup(database, blobs, tmp_path / "x.tar")
        assert not (tmp_path / "x.tar").exists()

    run(test)


def test_nothing_is_overwritten(archive: Path, target: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="exists"):
        asyncio.run(backup(Database(target), Blobs.at(None, tmp_path), archive))


def test_a_service_that_holds_something_is_left_alone(archive: Path, target: str, tmp_path: Path) -> None:
    restored(target, archive, tmp_path / "restored")
    with pytest.raises(BackupError, match="not empty"):
        restored(target, archive, tmp_path / "restored")


class TestDamage:
    """An archive that is not what was written is refused before anything is."""

    def refused(self, source: Path, target: str, tmp_path: Path, match: str) -> None:
        with pytest.raises(BackupError, match=match):
            restored(target, source, tmp_path / "restored")
        assert not list((tmp_path / "restored").rglob("*/raw/*"))

        async def rows() -> int:
            database = Database(target)
            found = await count(database, DatasetRow)
            await database.close()
            return found

        assert asyncio.run(rows()) == 0

    def test_blob(self, archive: Path, target: str, tmp_path: Path) -> None:
        bad = changed(archive, lambda name, data: b"other" if "/raw/" in name else data)
        self.refused(bad, target, tmp_path, "the blob raw/.* is damaged")

    def test_table(self, archive: Path, target: str, tmp_path: Path) -> None:
        bad = changed(archive, lambda name, data: data * 2 if name == "tables/tasks.jsonl" else data)
        self.refused(bad, target, tmp_path, "rows differ from the manifest")

    def test_left_out(self, archive: Path, target: str, tmp_path: Path) -> None:
        bad = changed(archive, lambda name, data: None if "/raw/" in name else data)
        self.refused(bad, target, tmp_path, "blobs differ from the manifest")

    def test_cut_short(self, archive: Path, target: str, tmp_path: Path) -> None:
        bad = archive.with_name("short.tar")
        for size in (0, 100, archive.stat().st_size // 2):
            bad.write_bytes(archive.read_bytes()[:size])
            self.refused(bad, target, tmp_path, "cannot be read|ends early|is not a backup")

    def test_another_revision(self, archive: Path, target: str, tmp_path: Path) -> None:
        head = json.dumps({"format": 1, "revision": "0001"}).encode()
        bad = changed(archive, lambda name, data: head if name == "head.json" else data)
        self.refused(bad, target, tmp_path, "of revision '0001'")

    def test_paths_that_lead_elsewhere(self, archive: Path, target: str, tmp_path: Path) -> None:
        for name in ("../x", "raw/../../x", "/etc/x", "raw/t/.ssh/x"):
            bad = archive.with_name("evil.tar")
            with tarfile.open(archive) as source, tarfile.open(bad, "w", format=tarfile.PAX_FORMAT) as copy:
                for member in source:
                    if member.name.startswith("blobs/raw"):
                        member.name = f"blobs/{name}"
                        member.pax_headers = {
                            key: value for key, value in member.pax_headers.items() if key != "path"
                        }
                    copy.addfile(member, source.extractfile(member))
            self.refused(bad, target, tmp_path, "is not the path of a blob")


def test_rows_that_do_not_fit_leave_nothing(archive: Path, target: str, tmp_path: Path) -> None:
    async def prepare() -> None:
        database = Database(target)
        async with database.write() as session:
            await session.execute(text("CREATE UNIQUE INDEX one ON jobs (kind)"))
        await database.close()

    asyncio.run(prepare())
    with pytest.raises(BackupError, match="do not fit"):
        restored(target, archive, tmp_path / "restored")
