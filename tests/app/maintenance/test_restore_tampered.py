"""An archive that was changed on purpose, its digests included: refused in one line, and nothing is restored."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.db.blobs import Blobs, digest
from app.db.database import Database
from app.db.migrate import upgrade
from app.maintenance.backup_format import DIGEST_HEADER, BackupError, Manifest
from app.maintenance.backup_reader import restore
from app.maintenance.backup_writer import backup
from tests.app.maintenance.stock import INPUT, LABEL, LEARNER, contents, fill, paths

Row = dict[str, Any]
LONG = "x" * 201


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    url = f"sqlite+aiosqlite:///{folder / 'source.db'}"
    upgrade(url)

    async def write() -> None:
        database, blobs = Database(url), Blobs.at(None, folder / "source")
        await fill(database, blobs)
        await backup(database, blobs, folder / "x.tar")
        await database.close()

    asyncio.run(write())
    return folder / "x.tar"


class Tampered:
    """The members of an archive; `write` gives them a manifest that agrees with them."""

    def __init__(self, source: Path) -> None:
        with tarfile.open(source) as tar:
            self.members = [
                (member, file.read()) for member in tar if (file := tar.extractfile(member)) is not None
            ]

    def rows(self, table: str, change: Callable[[list[Row]], object]) -> None:
        rows = [json.loads(line) for line in self.data(f"tables/{table}.jsonl").splitlines()]
        change(rows)
        self.replace(f"tables/{table}.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    def data(self, name: str) -> bytes:
        return next(data for member, data in self.members if member.name == name)

    def replace(self, name: str, data: bytes | None) -> None:
        """Change a member; None leaves it out."""
        changed = [(member, data if member.name == name else old) for member, old in self.members]
        self.members = [(member, found) for member, found in changed if found is not None]

    def rename(self, start: str, name: str) -> None:
        for member, _ in self.members:
            if member.name.startswith(start):
                member.name = name
                member.pax_headers = {}

    def write(self, target: Path) -> None:
        manifest = Manifest()
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            for member, data in self.members:
                found = manifest.encode() if member.name == "manifest.json" else data
                found = b"" if not member.isreg() else found
                member.size = len(found)
                if member.name.startswith("blobs/"):
                    manifest.add_blob(member.name.removeprefix("blobs/"), len(data), digest(data))
                    member.pax_headers = {DIGEST_HEADER: digest(data)}
                elif member.name.startswith("tables/"):
                    name = member.name.removeprefix("tables/").removesuffix(".jsonl")
                    manifest.rows[name] = data.count(b"\n")
                    manifest.digests[name] = hashlib.sha256(data).hexdigest()
                tar.addfile(member, io.BytesIO(found))


def refused(archive: Path, folder: Path, change: Callable[[Tampered], object]) -> str:
    """Return the message with which the changed archive is refused, after checking that nothing was restored."""
    tampered = Tampered(archive)
    change(tampered)
    tampered.write(folder / "tampered.tar")
    url = f"sqlite+aiosqlite:///{folder / 'target.db'}"
    upgrade(url)

    async def read() -> str:
        database, blobs = Database(url), Blobs.at(None, folder / "restored")
        try:
            with pytest.raises(BackupError) as caught:
                await restore(database, blobs, folder / "tampered.tar")
            assert not any((await contents(database)).values())
            assert await paths(blobs) == {}
        finally:
            await database.close()
        return str(caught.value)

    message = asyncio.run(read())
    assert "\n" not in message
    return message


def test_unchanged(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refused(archive, tmp_path, lambda tampered: tampered)


VALUES: list[tuple[str, str, Any]] = [
    ("tasks", "id", "../../x"),
    ("tasks", "id", 7),
    ("tasks", "id", None),
    ("tasks", "tenant", "../t"),
    ("tasks", "tenant", ""),
    ("tasks", "name", LONG),
    ("tasks", "name", "a\0b"),
    ("tasks", "name", "\ud800"),
    ("tasks", "name", ["a"]),
    ("tasks", "current", "1"),
    ("tasks", "current", 1.0),
    ("tasks", "current", True),
    ("tasks", "current", 2),
    ("tasks", "current", -1),
    ("tasks", "revision", 1 << 40),
    ("tasks", "created_at", "yesterday"),
    ("tasks", "created_at", "2026-01-02T03:04:05"),
    ("tasks", "created_at", 0),
    ("tasks", "created_at", "0001-01-01T00:00:00+14:00"),
    ("versions", "task_id", "task_2"),
    ("versions", "id", "ver_1/../../x"),
    ("versions", "learner", "../x"),
    ("versions", "learner_digest", "../../x"),
    ("versions", "seed", 1 << 63),
    ("versions", "seed", "1"),
    ("versions", "classes", "a"),
    ("versions", "classes", ["other"]),
    ("versions", "classes", [LABEL, LABEL]),
    ("versions", "classes", [1]),
    ("versions", "classes", {"a": 1}),
    ("versions", "classes", []),
    ("versions", "shots", [2]),
    ("versions", "shots", ["1"]),
    ("versions", "shots", []),
    ("versions", "shots", [1, 1]),
    ("versions", "shape", [14]),
    ("versions", "shape", []),
    ("versions", "shape", [-15]),
    ("versions", "shape", [3, 5]),
    ("versions", "shape", None),
    ("versions", "target", 1),
    ("examples", "label", "other"),
    ("examples", "kind", "audio"),
    ("examples", "target", [1.0]),
    ("examples", "target", ["1"]),
    ("examples", "blob", "ab" * 32),
    ("examples", "blob", "../../etc/passwd"),
    ("examples", "blob", digest(INPUT).upper()),
    ("examples", "tenant", "other"),
    ("version_examples", "position", -1),
    ("version_examples", "example_id", "ex_2"),
    ("predictions", "kind", ""),
    ("predictions", "blob", "ab" * 32),
    ("predictions", "target", [None]),
    ("datasets", "format", "exe"),
    ("datasets", "classes", {"a": "2"}),
    ("datasets", "classes", {"a": -1}),
    ("datasets", "report", {"warnings": 7}),
    ("datasets", "blob", "ab" * 32),
    ("datasets", "bytes", 1.5),
    ("learners", "name", "../x"),
    ("learners", "status", "great"),
    ("learners", "digest", "ab" * 32),
    ("learners", "digest", None),
    ("jobs", "state", "sleeping"),
    ("jobs", "payload", []),
    ("jobs", "progress", "half"),
    ("jobs", "id", "job_1/../../x"),
    ("jobs", "cancel_requested", 0),
    ("streams", "config", {}),
    ("streams", "config", {"input": {"kind": "vector"}, "shape": ["x"]}),
    ("streams", "config", {"input": {"kind": "vector"}, "shape": [3], "method": "magic"}),
    ("streams", "current", 9),
    ("streams", "latest", 0),
    ("streams", "alarm_drift", "0.5"),
    ("stream_tasks", "labels", "ab"),
    ("stream_tasks", "state", "unknown"),
    ("stream_tasks", "held_out_blob", "ab" * 32),
    ("stream_versions", "blob", "ab" * 32),
    ("stream_parts", "blob", "ab" * 32),
    ("stream_parts", "accuracy", "good"),
    ("stream_parts", "task_id", "stask_2"),
]


@pytest.mark.parametrize(("table", "column", "value"), VALUES)
def test_values(archive: Path, tmp_path: Path, table: str, column: str, value: Any) -> None:
    message = refused(
        archive, tmp_path, lambda tampered: tampered.rows(table, lambda rows: rows[0].update({column: value}))
    )
    assert message.startswith("the rows do not fit: ")


@pytest.mark.parametrize(
    "line",
    [
        b"7\n",
        b"{\n",
        b"[" * 100_000 + b"\n",
        b'{"id": 1, "id": 2}\n',
        b'{"current": NaN}\n',
        b'{"current": ' + b"9" * 5000 + b"}\n",
        b"\xff\n",
        b"{}\n",
        b"\n",
    ],
)
def test_lines(archive: Path, tmp_path: Path, line: bytes) -> None:
    assert "tasks" in refused(archive, tmp_path, lambda t: t.replace("tables/tasks.jsonl", line))


def test_columns_and_rows(archive: Path, tmp_path: Path) -> None:
    """Columns that no table has or that are left out, rows twice, and rows that others need."""
    changes: list[Callable[[list[Row]], object]] = [
        lambda rows: rows[0].update({"secret": 1}),
        lambda rows: rows[0].pop("name"),
        lambda rows: rows.append(rows[0]),
        lambda rows: rows.clear(),
    ]
    for number, change in enumerate(changes):
        folder = tmp_path / str(number)
        folder.mkdir()

        def change_tasks(tampered: Tampered, change: Callable[[list[Row]], object] = change) -> None:
            tampered.rows("tasks", change)

        assert "do not fit" in refused(archive, folder, change_tasks)


def _link(kind: bytes, target: str) -> Callable[[Tampered], object]:
    def change(tampered: Tampered) -> None:
        for member, data in tampered.members:
            if member.name.startswith("blobs/raw") and data == INPUT:
                member.type, member.linkname = kind, target

    return change


def _add(name: str, data: bytes = b"x", at: int = 1) -> Callable[[Tampered], object]:
    return lambda tampered: tampered.members.insert(at, (tarfile.TarInfo(name), data))


MEMBERS: dict[str, tuple[Callable[[Tampered], object], str]] = {
    "symbolic link": (_link(tarfile.SYMTYPE, "/etc/passwd"), "not a regular file"),
    "hard link": (_link(tarfile.LNKTYPE, "/etc/passwd"), "not a regular file"),
    "hard link within": (_link(tarfile.LNKTYPE, "head.json"), "not a regular file"),
    "device": (_link(tarfile.CHRTYPE, ""), "not a regular file"),
    "block device": (_link(tarfile.BLKTYPE, ""), "not a regular file"),
    "pipe": (_link(tarfile.FIFOTYPE, ""), "not a regular file"),
    "folder": (_link(tarfile.DIRTYPE, ""), "not a regular file"),
    "absolute path": (lambda t: t.rename("blobs/raw", "/etc/cron.d/x"), "no part of a backup"),
    "absolute blob": (lambda t: t.rename("blobs/raw", "blobs//etc/x"), "not the path of a blob"),
    "parent": (lambda t: t.rename("blobs/raw", "../x"), "no part of a backup"),
    "parent blob": (lambda t: t.rename("blobs/raw", "blobs/raw/../../x"), "not the path of a blob"),
    "unknown table": (_add("tables/users.jsonl"), "no part of a backup"),
    "transient table": (_add("tables/changes.jsonl"), "no part of a backup"),
    "unknown member": (_add("README"), "no part of a backup"),
    "after the manifest": (lambda t: t.members.append((tarfile.TarInfo("x"), b"")), "after the manifest"),
    "not the first": (_add("x", at=0), "not a backup"),
    "second head": (lambda t: t.members.insert(1, t.members[0]), "not a backup"),
    "blob twice": (lambda t: t.members.insert(1, t.members[1]), "there twice"),
    "table twice": (lambda t: t.members.insert(-1, t.members[-2]), "there twice"),
    "lost table": (lambda t: t.replace("tables/jobs.jsonl", None), "lacks the table jobs"),
    "lost blob": (
        lambda t: t.replace(f"blobs/raw/t/{digest(INPUT)[:2]}/{digest(INPUT)}", None),
        "which the archive lacks",
    ),
    "other bytes": (
        lambda t: t.replace(f"blobs/raw/t/{digest(INPUT)[:2]}/{digest(INPUT)}", b"other"),
        "is damaged",
    ),
    "other bytes of a learner": (
        lambda t: t.replace(f"blobs/learners/t/{LEARNER}/config.json", b"{}"),
        "missing or damaged",
    ),
    "lost file of a learner": (
        lambda t: t.replace(f"blobs/learners/t/{LEARNER}/config.json", None),
        "missing or damaged",
    ),
    "deep head": (lambda t: t.replace("head.json", b"[" * 100_000), "head.json cannot be read"),
    "list as head": (lambda t: t.replace("head.json", b"[]"), "head.json cannot be read"),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members(archive: Path, tmp_path: Path, name: str) -> None:
    change, match = MEMBERS[name]
    assert match in refused(archive, tmp_path, change)


def test_a_store_that_fails_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    """Blobs that were written before the failure go; those of before stay."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'target.db'}"
    upgrade(url)

    class Failing(Blobs):
        count = 0

        async def put_file(self, path: str, file: Any) -> None:
            self.count += 1
            if self.count > 3:
                raise OSError(5, "Input/output error")
            await super().put_file(path, file)

    async def run() -> None:
        database, blobs = Database(url), Failing.at(None, tmp_path / "restored")
        await blobs.put_missing("t", {digest(INPUT): INPUT})
        with pytest.raises(OSError, match="Input/output"):
            await restore(database, blobs, archive)
        assert list((await paths(blobs)).values()) == [INPUT]
        assert not any((await contents(database)).values())
        await database.close()

    asyncio.run(run())
