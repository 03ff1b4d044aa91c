"""A service that holds one of everything."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select

from app.datasets import repository as datasets
from app.db.base import Base
from app.db.blobs import Blobs, digest
from app.db.clock import now_ms
from app.db.database import Database
from app.db.tables import (
    ChangeRow,
    DatasetRow,
    ExampleRow,
    IdempotencyRow,
    JobRow,
    LearnerRow,
    PredictionRow,
    StreamPartRow,
    StreamRow,
    StreamTaskRow,
    StreamVersionRow,
    TaskRow,
    VersionExampleRow,
    VersionRow,
)
from app.learners import files as learner_files
from app.learners import repository as learners
from app.learners.files import FILES
from app.streams import files as stream_files
from app.streams import repository as streams
from tests.app.stores import store_of

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
PAST, FUTURE = NOW - timedelta(days=400), datetime.now(UTC) + timedelta(days=400)
INPUT, QUERY, FILE = b"input" * 12, b"query" * 12, b"file" * 1000
"""The vectors have 15 numbers."""
LABEL = "ä\u2028"
ARTIFACT = {name: name.encode() for name in FILES}
LEARNER = learner_files.bundle_digest(ARTIFACT)
CONFIG = {"seed": 1, "shape": [3], "input": {"kind": "vector", "dim": 3}}
SHARED, OWN, HELD_OUT = b"shared", b"own", b"held out"
MINE: dict[str, Any] = {"tenant": "t", "created_at": NOW}


async def fill(database: Database, blobs: Blobs) -> None:
    """Add rows and blobs that a cleanup must keep."""
    await blobs.put_missing("t", {digest(INPUT): INPUT, digest(QUERY): QUERY})
    await blobs.put_features("d", "ver_1", b"features")
    store = store_of(database, "t", blobs)
    await store.files(datasets.FOLDER).put(digest(FILE), io.BytesIO(FILE))
    await learner_files.keep(store.files(learners.FOLDER), LEARNER, ARTIFACT)
    parts = {digest(part): part for part in (SHARED, OWN, HELD_OUT)}
    await stream_files.keep(store.files(streams.FOLDER), parts)
    version = {
        "learner": "l",
        "learner_digest": "d",
        "seed": 2**62,
        "classes": [LABEL],
        "shots": [1],
        "shape": [15],
    }
    rows: list[tuple[type[Base], dict[str, Any]]] = [
        (TaskRow, {"id": "task_1", "name": None, "current": 1} | MINE),
        (VersionRow, {"id": "ver_1", "task_id": "task_1", "number": 1} | version | MINE),
        (
            ExampleRow,
            {"id": "ex_1", "task_id": "task_1", "label": LABEL, "kind": "vector", "blob": digest(INPUT)}
            | MINE,
        ),
        (VersionExampleRow, {"version_id": "ver_1", "position": 0, "example_id": "ex_1", "tenant": "t"}),
        (PredictionRow, prediction("pred_1", digest(QUERY), FUTURE)),
        (DatasetRow, dataset("ds_1", digest(FILE))),
        (LearnerRow, learner("lrn_1", LEARNER)),
        *stream(),
        (JobRow, job("job_1", "running", None)),
        (JobRow, job("job_2", "succeeded", FUTURE)),
        (IdempotencyRow, key("idem_1", 60_000)),
        (
            ChangeRow,
            {"id": "chg_1", "tenant": "t", "at": now_ms(), "kind": "task", "subject": "x", "detail": []},
        ),
    ]
    await add(database, *rows)


def stream() -> list[tuple[type[Base], dict[str, Any]]]:
    """Return a stream with one stream task, in one version."""
    task = {"stream_id": "strm_1", "name": "a", "labels": ["0", "ä"], "state": "ready", "examples": 9}
    held_out = {"held_out": 1, "held_out_blob": digest(HELD_OUT), "accuracy_registered": 0.75}
    part = {"version_id": "sv_1", "position": 0, "task_id": "stask_1", "blob": digest(OWN), "alarm": True}
    bounds = {"alarm_drift": 0.5, "alarm_fall": 0.05}
    return [
        (
            StreamRow,
            {"id": "strm_1", "name": "s", "config": CONFIG, "current": 1, "latest": 1} | bounds | MINE,
        ),
        (StreamTaskRow, {"id": "stask_1", "dataset_id": "ds_1"} | task | held_out | MINE),
        (
            StreamVersionRow,
            {"id": "sv_1", "stream_id": "strm_1", "number": 1, "blob": digest(SHARED), "origin": "registered"}
            | MINE,
        ),
        (StreamPartRow, part | {"tenant": "t", "accuracy": 0.5, "drift": 0.125}),
    ]


async def add(database: Database, *rows: tuple[type[Base], dict[str, Any]]) -> None:
    async with database.write() as session:
        for table, row in rows:
            await session.execute(insert(table).values(row))


def prediction(id: str, blob: str, expires: datetime) -> dict[str, Any]:
    row = {"id": id, "task_id": "task_1", "version": 1, "label": "a", "kind": "vector", "blob": blob}
    return row | {"expires_at": expires} | MINE


def dataset(id: str, blob: str) -> dict[str, Any]:
    row = {"id": id, "name": "n", "format": "csv", "kind": "vector", "shape": [3], "classes": {"a": 2}}
    return row | {"bytes": 1 << 33, "blob": blob} | MINE


def learner(id: str, found: str | None) -> dict[str, Any]:
    row = {"id": id, "name": id[-1], "method": "hyperset", "status": "ready", "digest": found}
    return row | {"dataset_id": "ds_1", "job_id": "job_2"} | MINE


def job(id: str, state: str, finished: datetime | None) -> dict[str, Any]:
    row = {"id": id, "kind": "train", "payload": {"steps": 3}, "state": state, "run_at": 1, "lease_until": 7}
    return row | {"progress": {"loss": 0.5}, "finished_at": finished} | MINE


def key(id: str, left_ms: int) -> dict[str, Any]:
    row = {"id": id, "key": id, "route": "POST /x", "body": "-", "token": "turn_1", "status": 201}
    return row | {"lease_until": 0, "expires_at": now_ms() + left_ms} | MINE


async def contents(database: Database) -> dict[str, list[Any]]:
    """Return all rows."""
    async with database.read() as session:
        return {
            table.name: [
                tuple(row) for row in await session.execute(select(table).order_by(*table.primary_key))
            ]
            for table in Base.metadata.sorted_tables
        }


async def count(database: Database, table: type[Base]) -> int:
    async with database.read() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def paths(blobs: Blobs) -> dict[str, bytes]:
    """Return all blobs but features."""
    found = [
        path
        for prefix in ("raw/", "datasets/", "learners/", "streams/")
        async for some in blobs.listed_files(prefix)
        for path in some
    ]
    return {path: await blobs.get_file(path) for path in sorted(found)}
