"""`hyperserve backup`: the rows of one moment and the blobs that they name, beside a running server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import repository as datasets
from app.db.blobs import RAW, BlobMissingError, Blobs, raw_path
from app.db.database import Database
from app.db.tables import (
    REVISION,
    DatasetRow,
    ExampleRow,
    LearnerRow,
    PredictionRow,
    StreamPartRow,
    StreamTaskRow,
    StreamVersionRow,
)
from app.learners import repository as learners
from app.maintenance.backup_format import (
    BLOBS,
    DIGEST_HEADER,
    FORMAT,
    HEAD,
    MANIFEST,
    TABLES,
    BackupError,
    BackupHead,
    Manifest,
    encode_row,
    sha256,
    tables,
)
from app.streams import repository as streams

TRIES = 5
"""Snapshots tried: a deletion between reading a row and reading its blob makes one useless."""
_ROWS_AT_ONCE = 500


async def backup(database: Database, blobs: Blobs, target: Path) -> Manifest:
    """Write the archive; it appears under its name when it is whole. Raises `BackupError`."""
    if await asyncio.to_thread(target.exists):
        raise BackupError(f"{target} exists already")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
            manifest = await _BackupWriter(database, blobs, tar, target.parent).write()
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return manifest


class _BackupWriter:
    def __init__(self, database: Database, blobs: Blobs, tar: tarfile.TarFile, scratch: Path) -> None:
        self._database = database
        self._blobs = blobs
        self._tar = tar
        self._scratch = scratch
        self._written: set[str] = set()
        self._manifest = Manifest()

    async def write(self) -> Manifest:
        self._add(HEAD, json.dumps(asdict(BackupHead(FORMAT, REVISION))).encode())
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=self._scratch) as folder:
            for _ in range(TRIES):
                paths = Path(folder) / "paths"
                await self._dump(Path(folder), paths)
                missing = await self._copy(paths, Path(folder))
                if missing is None:
                    break
            else:
                raise BackupError(f"the blob {missing} is named by a row, but missing from the store")
            for table in tables():
                self._add_file(f"{TABLES}{table.name}.jsonl", Path(folder) / table.name)
        self._add(MANIFEST, self._manifest.encode())
        return self._manifest

    async def _dump(self, folder: Path, paths: Path) -> None:
        """Write all tables as they are at one moment, and the paths of all blobs that they name."""
        async with self._snapshot() as session:
            for table in tables():
                digest, rows = hashlib.sha256(), 0
                with (folder / table.name).open("wb") as file:
                    async for line in _lines(session, table):
                        file.write(line)
                        digest.update(line)
                        rows += 1
                self._manifest.rows[table.name] = rows
                self._manifest.digests[table.name] = digest.hexdigest()
            with paths.open("w") as listed:
                async for path in _paths(session, self._blobs):
                    listed.write(f"{path}\n")

    async def _copy(self, paths: Path, folder: Path) -> str | None:
        """Add all blobs that are not in the archive yet; return the first missing from the store, or None."""
        scratch = folder / "blob"
        with paths.open() as listed:
            for path in map(str.strip, listed):
                if path in self._written:
                    continue
                try:
                    await self._blobs.fetch_file(path, scratch)
                except BlobMissingError:
                    return path
                self._written.add(path)
                await asyncio.to_thread(self._add_blob, path, scratch)
        return None

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[AsyncSession]:
        """Open a session whose reads see the database as it was at the first of them."""
        async with self._database.read() as session:
            if session.get_bind().dialect.name == "postgresql":
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            yield session

    def _add_blob(self, path: str, source: Path) -> None:
        with source.open("rb") as file:
            digest = sha256(file)
        size = self._add_file(f"{BLOBS}{path}", source, {DIGEST_HEADER: digest})
        self._manifest.add_blob(path, size, digest)

    def _add_file(self, name: str, source: Path, headers: dict[str, str] | None = None) -> int:
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._member(name, size, file, headers)
        return size

    def _add(self, name: str, data: bytes) -> None:
        self._member(name, len(data), io.BytesIO(data))

    def _member(self, name: str, size: int, file: IO[bytes], headers: dict[str, str] | None = None) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = size, int(time.time()), 0o600
        member.pax_headers = headers or {}
        self._tar.addfile(member, file)
        # tarfile would remember every member, of which there may be millions.
        self._tar.members.clear()  # type: ignore[attr-defined]


async def _lines(session: AsyncSession, table: Table) -> AsyncIterator[bytes]:
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=_ROWS_AT_ONCE)
    async for row in (await session.stream(query)).mappings():
        yield encode_row(dict(row))


async def _paths(session: AsyncSession, blobs: Blobs) -> AsyncIterator[str]:
    """Yield the paths of all blobs but features, which can be made again."""
    for held in (ExampleRow, PredictionRow):
        async for tenant, blob in await session.stream(select(held.tenant, held.blob).distinct()):
            yield f"{RAW}/{tenant}/{raw_path(blob)}"
    async for tenant, blob in await session.stream(select(DatasetRow.tenant, DatasetRow.blob).distinct()):
        yield f"{datasets.FOLDER}/{tenant}/{blob}"
    for row, column in (
        (StreamVersionRow, StreamVersionRow.blob),
        (StreamPartRow, StreamPartRow.blob),
        (StreamTaskRow, StreamTaskRow.held_out_blob),
    ):
        named = select(row.tenant, column).where(column.is_not(None)).distinct()
        async for tenant, part in await session.stream(named):
            assert part is not None
            yield f"{streams.FOLDER}/{tenant}/{part}"
    ready = select(LearnerRow.tenant, LearnerRow.digest).where(LearnerRow.digest.is_not(None)).distinct()
    async for tenant, digest in await session.stream(ready):
        assert digest is not None
        # It was published after all of its files were written.
        folder = f"{learners.FOLDER}/{tenant}/{digest}/"
        listed = [path async for some in blobs.listed_files(folder) for path in some]
        for path in listed or [f"{folder}config.json"]:
            yield path
