"""Data folders of any name are used, and those that cannot be used are named in one line."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.core.data_folder import DataFolderError, open_data_folder
from app.core.settings import Settings
from app.db.blob_lock import BlobLock
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.errors import DatabaseAwayError, DatabaseError
from app.db.migrate import database_file, prepare_database, revision
from app.db.tables import REVISION

ODD_NAMES = [
    "what?", "a?mode=ro", "a#b", "100%", "a%20b", "a%3Fb", "two words", " lead", "trail ", "äöü", "a\u0308", "日本",
    "a+b", "a&b=c", "a;b", "a:b", "a@b", "user:pw@host", "[x]", "{x}", "a*", "~", "'q'", '"q"', "back\\slash",
    "$HOME", "`x`", "a|b", "file:x", ":memory:", "sqlite:", "line\nbreak", "tab\t", "-dash", "..x", "x.db", "😀",
]  # fmt: skip


async def _use(settings: Settings, folder: Path) -> None:
    database = Database(settings.database)
    try:
        async with database.write() as session:
            assert await session.scalar(text("SELECT version_num FROM alembic_version")) == REVISION
        async with BlobLock(database).shared():
            assert (folder / "hyperserve.db.blobs").is_file()
    finally:
        await database.close()
    blobs = Blobs.at(None, settings.data_dir)
    await blobs.put_missing("default", {"ab" * 32: b"raw"})
    assert await blobs.get("default", ["ab" * 32]) == [b"raw"]


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_everything_lies_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    monkeypatch.setenv("HYPERSERVE_DATA_DIR", name if relative else str(folder))
    settings = Settings()
    open_data_folder(settings.data_dir)
    prepare_database(settings)
    assert revision(settings.database) == REVISION
    assert database_file(settings.database) == folder / "hyperserve.db"
    assert make_url(settings.database).database == str(folder / "hyperserve.db")
    asyncio.run(_use(settings, folder))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    stored = next((folder / "blobs").rglob("ab" * 32))
    assert stored.read_bytes() == b"raw"
    with sqlite3.connect(folder / "hyperserve.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (REVISION,)


def test_a_url_names_an_odd_file_with_escapes(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/a%3Fb%23c.db", data_dir=tmp_path)
    prepare_database(settings)
    assert (tmp_path / "a?b#c.db").is_file()


def test_a_name_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERSERVE_DATA_DIR", "a\udcffb")
    with pytest.raises(ValueError, match="must be UTF-8"):
        Settings()


def refused(folder: Path) -> str:
    with pytest.raises(DataFolderError) as caught:
        open_data_folder(folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


class TestFoldersThatCannotBeUsed:
    def test_a_file_has_the_name(self, tmp_path: Path) -> None:
        (tmp_path / "data").touch()
        assert refused(tmp_path / "data") == (
            f"the data folder {tmp_path}/data cannot be made: a file has its name"
        )

    def test_a_file_among_the_parents(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert f"{tmp_path}/file/data" in refused(tmp_path / "file" / "data")

    def test_a_link_to_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "data").symlink_to(tmp_path / "none")
        assert f"{tmp_path}/data" in refused(tmp_path / "data")

    @pytest.mark.parametrize("name", ["blobs", "scratch"])
    def test_a_file_inside_has_the_name_of_a_folder(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).touch()
        assert f"{tmp_path}/{name} must be a folder" in refused(tmp_path)

    def test_a_folder_that_the_system_refuses(self) -> None:
        assert "/proc/none/data" in refused(Path("/proc/none/data"))

    def test_a_folder_without_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(**_options: object) -> None:
            raise PermissionError(13, "Permission denied", f"{tmp_path}/abc")

        monkeypatch.setattr(tempfile, "TemporaryFile", denied)
        assert refused(tmp_path) == f"the data folder {tmp_path} cannot be used: Permission denied"

    def test_a_relative_name_is_shown_in_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("line\nbreak").touch()
        assert repr(f"{tmp_path}/line\nbreak") in refused(Path("line\nbreak"))


class TestDatabasesThatCannotBeUsed:
    def test_a_folder_has_the_name_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "hyperserve.db").mkdir()
        with pytest.raises(DatabaseAwayError, match=f"{tmp_path}/hyperserve.db: unable to open"):
            prepare_database(Settings(data_dir=tmp_path), 30)

    def test_the_file_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "hyperserve.db").write_bytes(b"something else" * 100)
        with pytest.raises(DatabaseError, match=f"{tmp_path}/hyperserve.db: file is not a database"):
            prepare_database(Settings(data_dir=tmp_path))
