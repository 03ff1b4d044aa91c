"""`hyperserve restore`: an archive into an empty service, on whatever database and store it has."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Table, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import Base
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.errors import DatabaseStatementError
from app.db.tables import REVISION
from app.maintenance.backup_checks import ArchivedBlob, ArchiveError, check_archive
from app.maintenance.backup_format import (
    BLOBS,
    DIGEST_HEADER,
    FORMAT,
    HEAD,
    MANIFEST,
    TABLES,
    BackupError,
    Manifest,
    sha256,
    tables,
)
from app.maintenance.backup_rows import RowError, checked_row

_ROWS_AT_ONCE = 500
_COPIED_BYTES = 1 << 20
_PATH = re.compile(r"(raw|datasets|learners|streams)(/[A-Za-z0-9_-][A-Za-z0-9._-]*){2,3}")


async def restore(database: Database, blobs: Blobs, source: Path) -> Manifest:
    """Restore blobs, then rows in one transaction; if anything fails, nothing is left of either.

    Raises `BackupError` if the archive is damaged or of another revision, or if the service is not empty.
    """
    async with database.read() as session:
        await _check_empty(session)
    with tempfile.TemporaryDirectory(prefix="hyperserve-restore-") as scratch:
        folder = Path(scratch)
        # The whole archive is checked before anything is written.
        try:
            archive = await asyncio.to_thread(_verified, source, folder)
        except tarfile.TarError as error:
            # The archive ends in the middle of a member.
            raise BackupError(f"{source} cannot be read: {error}") from error
        await _rehearse(folder, archive.blobs)
        written: list[str] = []
        try:
            await _write_blobs(blobs, source, archive, folder / "blob", written)
            async with database.write() as session:
                await _check_empty(session)
                await _load_all(session, folder)
        except BaseException:
            await blobs.delete_files(written)
            raise
    return archive.manifest


async def _write_blobs(blobs: Blobs, source: Path, archive: _Archive, copy: Path, written: list[str]) -> None:
    """Write all blobs, adding the paths of those that were not there before to `written`."""
    for path, file in _blobs(source):
        with copy.open("wb") as target:
            await asyncio.to_thread(shutil.copyfileobj, file, target, _COPIED_BYTES)
        with copy.open("rb") as found:
            if path not in archive.blobs or sha256(found) != archive.blobs[path].digest:
                raise BackupError(f"{source} was changed while it was read")
            if not await blobs.has_file(path):
                written.append(path)
            await blobs.put_file(path, found)


async def _rehearse(folder: Path, blobs: Mapping[str, ArchivedBlob]) -> None:
    """Load the rows into a database of their own, and check there that they fit each other and the blobs."""
    rehearsal = Database(f"sqlite+aiosqlite:///{folder / 'rehearsal.db'}")
    try:
        async with rehearsal.write() as session:
            connection = await session.connection()
            await connection.run_sync(Base.metadata.create_all)
            await _load_all(session, folder)
            await check_archive(session, tables(), blobs)
    except (ArchiveError, DatabaseStatementError) as error:
        raise BackupError(f"the rows do not fit: {error}") from error
    finally:
        await rehearsal.close()


async def _load_all(session: AsyncSession, folder: Path) -> None:
    try:
        for table in tables():
            await _load(session, table, folder / table.name)
    except SQLAlchemyError as error:
        raise BackupError(f"the rows do not fit: {getattr(error, 'orig', error)}") from error


async def _check_empty(session: AsyncSession) -> None:
    for table in tables():
        if (await session.execute(select(table).limit(1))).first() is not None:
            raise BackupError(f"the database is not empty: the table {table.name} has rows")


async def _load(session: AsyncSession, table: Table, source: Path) -> None:
    with source.open("rb") as file:
        rows = (_row(table, line) for line in file)
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            await session.execute(insert(table), batch)


def _row(table: Table, line: bytes) -> dict[str, Any]:
    try:
        return checked_row(table, line)
    except RowError as error:
        raise BackupError(f"the rows do not fit: {error}") from error


def _members(source: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield all members in order, regular files; nothing is ever written to the path that a member names."""
    try:
        with tarfile.open(source, "r:") as tar:
            while (member := tar.next()) is not None:
                # tarfile would remember every member, of which there may be millions.
                tar.members.clear()  # type: ignore[attr-defined]
                file = tar.extractfile(member) if member.isreg() and not member.issparse() else None
                if file is None:
                    raise BackupError(f"{member.name!r} in {source} is not a regular file")
                yield member, file
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise BackupError(f"{source} cannot be read: {error}") from error


def _blobs(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    for member, file in _members(source):
        if member.name.startswith(BLOBS):
            yield member.name.removeprefix(BLOBS), file


@dataclass
class _Archive:
    """What was found in an archive that has been read to its end."""

    manifest: Manifest = field(default_factory=Manifest)
    blobs: dict[str, ArchivedBlob] = field(default_factory=dict)
    expected: Manifest | None = None

    def add_blob(self, member: tarfile.TarInfo, file: IO[bytes]) -> None:
        path, digest = member.name.removeprefix(BLOBS), sha256(file)
        if _PATH.fullmatch(path) is None:
            raise BackupError(f"{path!r} is not the path of a blob")
        named = path.startswith("learners/") or path.endswith(f"/{digest}")
        if digest != member.pax_headers.get(DIGEST_HEADER) or not named:
            raise BackupError(f"the blob {path} is damaged")
        if path in self.blobs:
            raise BackupError(f"the blob {path} is there twice")
        self.blobs[path] = ArchivedBlob(member.size, digest)
        self.manifest.add_blob(path, member.size, digest)

    def add_table(self, name: str, file: IO[bytes], target: Path) -> None:
        if name in self.manifest.rows:
            raise BackupError(f"the table {name} is there twice")
        with target.open("w+b") as copy:
            shutil.copyfileobj(file, copy, _COPIED_BYTES)
            copy.seek(0)
            self.manifest.digests[name] = sha256(copy)
            copy.seek(0)
            self.manifest.rows[name] = sum(1 for _ in copy)


def _verified(source: Path, folder: Path) -> _Archive:
    """Read the archive to its end and check it, writing its tables to `folder`."""
    found = _Archive()
    names = {f"{TABLES}{table.name}.jsonl": table.name for table in tables()}
    for position, (member, file) in enumerate(_members(source)):
        if (position == 0) != (member.name == HEAD):
            raise BackupError(f"{source} is not a backup of hyperserve")
        if found.expected is not None:
            raise BackupError(f"{member.name!r} in {source} comes after the manifest")
        if member.name == HEAD:
            _check_head(file)
        elif member.name == MANIFEST:
            found.expected = _manifest(file)
        elif member.name.startswith(BLOBS):
            found.add_blob(member, file)
        elif table := names.get(member.name):
            found.add_table(table, file, folder / table)
        else:
            raise BackupError(f"{member.name!r} in {source} is no part of a backup")
    if found.expected is None:
        raise BackupError(f"{source} ends early")
    for name, value in asdict(found.manifest).items():
        if asdict(found.expected).get(name) != value:
            raise BackupError(f"{source} is damaged: {name} differ from the manifest")
    lacking = set(names.values()) - found.manifest.rows.keys()
    if lacking:
        raise BackupError(f"{source} lacks the table {min(lacking)}")
    return found


def _check_head(file: IO[bytes]) -> None:
    head = _json(file, HEAD)
    if head.get("format") != FORMAT:
        raise BackupError(f"the backup has format {head.get('format')!r}; this code reads {FORMAT}")
    if head.get("revision") != REVISION:
        raise BackupError(
            f"the backup is of revision {head.get('revision')!r}, this code of {REVISION}: restore it with the "
            "code that made it, then upgrade"
        )


def _manifest(file: IO[bytes]) -> Manifest:
    try:
        return Manifest(**_json(file, MANIFEST))
    except TypeError as error:
        raise BackupError(f"the manifest cannot be read: {error}") from error


def _json(file: IO[bytes], name: str) -> dict[str, Any]:
    try:
        found = json.load(file)
    except (ValueError, RecursionError) as error:
        raise BackupError(f"{name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise BackupError(f"{name} cannot be read: it is not an object")
    return found
