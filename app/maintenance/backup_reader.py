"""`hyperserve restore`: an archive into an empty service, on whatever database and store it has."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Table, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.blobs import Blobs
from app.db.database import Database
from app.db.tables import REVISION
from app.maintenance.backup_format import (
    BLOBS,
    DIGEST_HEADER,
    FORMAT,
    HEAD,
    MANIFEST,
    TABLES,
    BackupError,
    Manifest,
    decode_row,
    sha256,
    tables,
)

_ROWS_AT_ONCE = 500
_PATH = re.compile(r"(raw|datasets|learners|streams)(/[A-Za-z0-9_-][A-Za-z0-9._-]*){2,3}")


async def restore(database: Database, blobs: Blobs, source: Path) -> Manifest:
    """Restore blobs, then rows in one transaction.

    Raises `BackupError` if the archive is damaged or of another revision, or if the service is not empty.
    """
    async with database.read() as session:
        await _check_empty(session)
    with tempfile.TemporaryDirectory(prefix="hyperserve-restore-") as scratch:
        folder = Path(scratch)
        # The whole archive is checked before anything is written.
        try:
            manifest = await asyncio.to_thread(_verified, source, folder)
        except tarfile.TarError as error:
            # The archive ends in the middle of a member.
            raise BackupError(f"{source} cannot be read: {error}") from error
        for path, file in _blobs(source):
            blob = folder / "blob"
            with blob.open("wb") as copy:
                await asyncio.to_thread(shutil.copyfileobj, file, copy, 1 << 20)
            with blob.open("rb") as copy:
                await blobs.put_file(path, copy)
        async with database.write() as session:
            await _check_empty(session)
            try:
                for table in tables():
                    await _load(session, table, folder / table.name)
            except SQLAlchemyError as error:
                raise BackupError(f"the rows do not fit: {getattr(error, 'orig', error)}") from error
    return manifest


async def _check_empty(session: AsyncSession) -> None:
    for table in tables():
        if (await session.execute(select(table).limit(1))).first() is not None:
            raise BackupError(f"the database is not empty: the table {table.name} has rows")


async def _load(session: AsyncSession, table: Table, source: Path) -> None:
    with source.open("rb") as file:
        rows = (decode_row(table, line) for line in file)
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            await session.execute(insert(table), batch)


def _members(source: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Yield regular files in order; nothing is ever written to the path that a member names."""
    try:
        with tarfile.open(source, "r:") as tar:
            while (member := tar.next()) is not None:
                # tarfile would remember every member, of which there may be millions.
                tar.members.clear()  # type: ignore[attr-defined]
                if (file := tar.extractfile(member)) is not None:
                    yield member, file
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BackupError(f"{source} cannot be read: {error}") from error


def _blobs(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    for member, file in _members(source):
        if member.name.startswith(BLOBS):
            yield member.name.removeprefix(BLOBS), file


def _verified(source: Path, folder: Path) -> Manifest:
    """Read the archive to its end and check it, writing its tables to `folder`."""
    found, expected = Manifest(), None
    names = {f"{TABLES}{table.name}.jsonl": table.name for table in tables()}
    first = True
    for member, file in _members(source):
        if first and member.name != HEAD:
            raise BackupError(f"{source} is not a backup of hyperserve")
        first = False
        if member.name == HEAD:
            _check_head(file)
        elif member.name == MANIFEST:
            expected = _manifest(file)
        elif member.name.startswith(BLOBS):
            path, digest = member.name.removeprefix(BLOBS), sha256(file)
            if _PATH.fullmatch(path) is None:
                raise BackupError(f"{path!r} is not the path of a blob")
            named = path.startswith("learners/") or path.endswith(f"/{digest}")
            if digest != member.pax_headers.get(DIGEST_HEADER) or not named:
                raise BackupError(f"the blob {path} is damaged")
            found.add_blob(path, member.size, digest)
        elif table := names.get(member.name):
            with (folder / table).open("w+b") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
                copy.seek(0)
                found.digests[table] = sha256(copy)
                copy.seek(0)
                found.rows[table] = sum(1 for _ in copy)
    if expected is None:
        raise BackupError(f"{source} ends early")
    for name, value in asdict(found).items():
        if asdict(expected).get(name) != value:
            raise BackupError(f"{source} is damaged: {name} differ from the manifest")
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
    except ValueError as error:
        raise BackupError(f"{name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise BackupError(f"{name} cannot be read: it is not an object")
    return found
