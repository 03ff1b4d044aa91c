"""The one table of what exceptions of lower layers become: problem documents."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from obstore.exceptions import BaseError as StoreError

from app.db.failures import NO_ANSWER, at_fault, busy
from app.http import handlers
from app.http.problems import ProblemError, fail
from app.serving.errors import EngineBusyError, EngineClosedError, NotFiniteError, LearnerNotLoadedError
from models.protocol import LearnerError

log = logging.getLogger("hyperserve")


def install(app: FastAPI) -> None:
    """Make the application answer every exception with a problem document."""
    handlers.install(app, TRANSLATIONS)


def _busy(error: EngineBusyError) -> ProblemError:
    seconds = max(1, math.ceil(error.retry_after))
    return fail("busy", "Too many requests are waiting.", headers={"Retry-After": str(seconds)})


def _database_failed(error: Exception) -> ProblemError:
    if at_fault(error):
        log.error("the database refused a statement", exc_info=error)
        return fail("internal_error", "The server failed to answer.")
    log.warning("the database did not answer: %s", getattr(error, "orig", error))
    if busy(error):
        return fail("busy", "The database is busy.", headers={"Retry-After": "1"})
    return fail("database_unavailable", "The database does not answer.", headers={"Retry-After": "2"})


def _store_failed(error: Exception) -> ProblemError:
    log.error("the blob store failed: %s", type(error).__name__, exc_info=error)
    return fail("storage_unavailable", "The store of inputs does not answer.", headers={"Retry-After": "2"})


TRANSLATIONS: dict[type[Exception], Callable[[Any], ProblemError]] = {
    EngineBusyError: _busy,
    EngineClosedError: lambda _: fail("busy", "The server is stopping.", headers={"Retry-After": "5"}),
    LearnerNotLoadedError: lambda _: fail("learner_unavailable", "The learner is no longer served."),
    NotFiniteError: lambda error: fail(
        "numerical_overflow",
        "The numbers overflow; scale the inputs down.",
        "/support" if error.support else "/queries",
    ),
    LearnerError: lambda error: fail("unsupported_support", f"{error}", "/support"),
    StoreError: _store_failed,
    **dict.fromkeys(NO_ANSWER, _database_failed),
}
