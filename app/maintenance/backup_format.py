"""The format of a backup: a tar file with one JSON line per row, the blobs that rows name, and a manifest.

    head.json            format and revision
    blobs/<path>         in the order of writing; a PAX header holds the SHA-256 of each
    tables/<name>.jsonl  the rows of one moment
    manifest.json        digests of everything

It is independent of the database: rows are written as plain JSON and read by the column types of the tables.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import IO, Any

from sqlalchemy import Table

from app.core.errors import AppError
from app.db.base import Base
from app.db.tables import ChangeRow, IdempotencyRow

FORMAT = 1
HEAD, MANIFEST = "head.json", "manifest.json"
BLOBS, TABLES = "blobs/", "tables/"
DIGEST_HEADER = "HYPERSERVE.sha256"
_TRANSIENT = {ChangeRow.__tablename__, IdempotencyRow.__tablename__}
"""Changes for running processes, and responses that are repeated for a day: of no use elsewhere."""
_CHUNK = 1 << 20


class BackupError(AppError):
    """A backup cannot be written or read; the message says why."""


def tables() -> list[Table]:
    """Return the tables of a backup; a table comes after those that it refers to."""
    return [table for table in Base.metadata.sorted_tables if table.name not in _TRANSIENT]


@dataclass(frozen=True)
class BackupHead:
    format: int
    revision: str


@dataclass
class Manifest:
    """The totals of an archive: built while it is written, and again while it is read, to be compared."""

    rows: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the lines of each table."""
    blobs: int = 0
    size: int = 0
    """Bytes of all blobs."""
    chain: str = ""
    """SHA-256 over the names and digests of all blobs, in order."""

    def add_blob(self, name: str, size: int, digest: str) -> None:
        self.blobs += 1
        self.size += size
        self.chain = hashlib.sha256(f"{self.chain} {name} {digest}".encode()).hexdigest()

    def encode(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def encode_row(row: Mapping[str, Any]) -> bytes:
    """Return a row as one line."""
    return json.dumps(dict(row), default=_plain, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    while data := file.read(_CHUNK):
        yield data


def sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for data in chunks(file):
        digest.update(data)
    return digest.hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"no JSON for {type(value).__name__}")
