"""Kinds of jobs. Each is a coroutine function that runs in a child process of its own.

`HYPERSERVE_JOB_KINDS` names a module with a further `KINDS`, such as a plug-in's or the tests'.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.settings import Settings
from app.db.blobs import Blobs
from app.db.engine import Database
from app.jobs.repository import Effect

KINDS: dict[str, str] = {
    "train": "workers.jobs.train:run",
    "stream_register": "workers.jobs.register_task:run",
    "stream_forget": "workers.jobs.forget_task:run",
}
"""Kind to `module:function`, imported by the child alone: the supervisor needs no torch."""


class JobFailedError(Exception):
    """Ends the job as failed, without another attempt; clients see the code and the detail."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Outcome:
    """What a job publishes when it has succeeded."""

    result: dict[str, Any]
    """For clients; JSON, with null for numbers that are not finite."""
    effect: Effect | None = None
    """Runs in the transaction that marks the job succeeded, under its fencing token: once, or not at all. It may
    be begun several times while the database comes and goes, so it changes nothing but its session."""
    after: Callable[[], Awaitable[None]] | None = None
    """Runs when the end is published, once or not at all: clears away what the effect has made useless, which else
    the clearing away of every hour does."""


@dataclass(frozen=True)
class JobContext:
    """All that a job is given. It may have run before, in part: the same payload, a lower attempt."""

    id: str
    tenant: str
    kind: str
    attempt: int
    """1 for the first."""
    token: int
    """Fencing token of the lease, for what is written beside the database."""
    payload: dict[str, Any]
    folder: Path
    """This attempt's own, empty; for checkpoints. It is deleted when the job has finished."""
    previous: Path | None
    """Folder of the newest attempt before that left one. Its process may still write there for a moment:
    checkpoints are renamed into place."""
    settings: Settings
    database: Database
    blobs: Blobs
    progress: Callable[[Mapping[str, Any]], None]
    """Tells clients how far it is, such as {"step": 300, "steps": 1000}. Callable from any thread and as often
    as one likes: the newest is sent, once a second."""

    def left(self, name: str) -> Path | None:
        """The newest file of this name that an attempt before left; one that was killed early left none."""
        home = self.folder.parent
        numbers = [int(path.name) for path in home.iterdir() if path.name.isdecimal()]
        earlier = sorted((number for number in numbers if number < self.attempt), reverse=True)
        found = (home / str(number) / name for number in earlier)
        return next((path for path in found if path.is_file()), None)


JobFunction = Callable[[JobContext], Awaitable[Outcome]]
"""Raises `JobFailedError`. Any other exception ends the job as failed with `internal_error`, except those that
say that the database or the blob store is away: these give it another attempt, as a killed process does."""


def kinds(settings: Settings) -> dict[str, str]:
    """All kinds that this worker runs."""
    if settings.job_kinds is None:
        return KINDS
    further: Mapping[str, str] = importlib.import_module(settings.job_kinds).KINDS
    return {**KINDS, **further}


def load(path: str) -> JobFunction:
    """The function at `module:function`."""
    module, _, name = path.partition(":")
    function: JobFunction = getattr(importlib.import_module(module), name)
    return function
