"""The one table that turns exceptions of lower layers into problem documents."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from app.core.errors import NO_ROOM, OUT_OF_FILES
from app.db.blobs import BlobStoreBusyError, BlobStoreError, BlobStoreFullError
from app.db.errors import DatabaseAwayError, DatabaseBusyError, DatabaseFullError
from app.db.invalidation_log import UndeliveredError
from app.http import handlers
from app.http.problems import ProblemError, fail
from app.serving.errors import EngineBusyError, EngineClosedError, LearnerNotLoadedError, NotFiniteError
from models.continual.storage import StreamStorageError
from models.protocol import LearnerError

log = logging.getLogger("hyperserve")


def install(app: FastAPI) -> None:
    """Make the application answer every exception with a problem document."""
    handlers.install(app, TRANSLATIONS)


def _engine_busy(error: EngineBusyError) -> ProblemError:
    seconds = max(1, math.ceil(error.retry_after))
    return fail("busy", "Too many requests are waiting.", headers={"Retry-After": str(seconds)})


def _database_busy(error: DatabaseBusyError) -> ProblemError:
    log.warning("the database is busy: %s", error)
    return fail("busy", "The database is busy.", headers={"Retry-After": "1"})


def _database_away(error: DatabaseAwayError) -> ProblemError:
    log.warning("the database did not answer: %s", error)
    return fail("database_unavailable", "The database does not answer.", headers={"Retry-After": "2"})


def _store_failed(error: BlobStoreError) -> ProblemError:
    log.error("the blob store failed", exc_info=error)
    return fail("storage_unavailable", "The store of inputs does not answer.", headers={"Retry-After": "2"})


def _parts_damaged(error: StreamStorageError) -> ProblemError:
    log.error("a stream cannot be read: %s", error)
    return fail(
        "storage_unavailable", "The stored parts of the stream are damaged.", headers={"Retry-After": "60"}
    )


def _storage_full(error: Exception) -> ProblemError:
    log.error("the disk is full: %s", error)
    return fail("storage_full", "There is no room on the disk; deletions make room.")


def _out_of_files(error: Exception) -> ProblemError:
    log.error("no file descriptor is left: %s", error)
    return fail("busy", "Too many files and connections are open.", headers={"Retry-After": "1"})


def _system_failed(error: OSError) -> ProblemError:
    if error.errno in NO_ROOM:
        return _storage_full(error)
    if error.errno in OUT_OF_FILES:
        return _out_of_files(error)
    # An internal error like any other.
    raise error


TRANSLATIONS: dict[type[Exception], Callable[[Any], ProblemError]] = {
    EngineBusyError: _engine_busy,
    EngineClosedError: lambda _: fail("busy", "The server is stopping.", headers={"Retry-After": "5"}),
    LearnerNotLoadedError: lambda _: fail("learner_unavailable", "The learner is no longer served."),
    NotFiniteError: lambda error: fail(
        "numerical_overflow",
        "The numbers are too large or too small for the learner; scale the inputs to about 1.",
        "/support" if error.support else "/queries",
    ),
    LearnerError: lambda error: fail("unsupported_support", f"{error}", "/support"),
    BlobStoreError: _store_failed,
    BlobStoreFullError: _storage_full,
    BlobStoreBusyError: _out_of_files,
    StreamStorageError: _parts_damaged,
    DatabaseBusyError: _database_busy,
    DatabaseAwayError: _database_away,
    DatabaseFullError: _storage_full,
    UndeliveredError: lambda _: fail(
        "busy", "A change is not yet applied in this process.", headers={"Retry-After": "1"}
    ),
    OSError: _system_failed,
}
