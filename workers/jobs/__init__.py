"""Kinds of jobs: each is a coroutine function that runs in a child process of its own.

`HYPERSERVE_JOB_KINDS` names a module with further `KINDS`, such as a plug-in's or the tests'.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import AppError
from app.core.settings import Settings
from app.db.blob_collector import BlobCollector
from app.db.tenancy import Store
from app.jobs.repository import Effect

KINDS: dict[str, str] = {
    "train": "workers.jobs.train:run",
    "stream_register": "workers.jobs.register_task:run",
    "stream_forget": "workers.jobs.forget_task:run",
}
"""Kind to `module:function`, which the child alone imports: the supervisor does without torch."""


class JobError(AppError):
    """Ends the job as failed, without another attempt; clients see the code and the detail."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job that has succeeded."""

    result: dict[str, Any]
    """JSON for clients, with null for numbers that are not finite."""
    effect: Effect | None = None
    """Runs in the transaction that marks the job as succeeded, under its fencing token: once, or not at all. While
    the database comes and goes it may start several times, so it must change nothing but the rows of its session."""
    after: Callable[[], Awaitable[None]] | None = None
    """Runs once after the outcome is published, or not at all: deletes blobs that the effect has made useless, which
    otherwise the hourly maintenance does."""


@dataclass(frozen=True)
class JobContext:
    """Everything that a job is given. An earlier attempt with the same payload may have run in part."""

    id: str
    kind: str
    attempt: int
    """1 for the first."""
    token: int
    """Fencing token of the lease, for what is written outside the database."""
    payload: dict[str, Any]
    folder: Path
    """An empty folder for this attempt's checkpoints. It is deleted when the job has finished."""
    previous: Path | None
    """Folder of the newest attempt before this one that left any. Its process may still write to it for a moment, so
    checkpoints are renamed into place."""
    settings: Settings
    collector: BlobCollector
    store: Store
    """The rows and blobs of the tenant whose job it is."""
    progress: Callable[[Mapping[str, Any]], None]
    """Reports progress to clients, such as {"step": 300, "steps": 1000}. Callable from any thread and as often as
    necessary: the newest progress is sent once a second."""

    def checkpoint(self, name: str) -> Path | None:
        """Return the newest file of this name that an earlier attempt left, if any."""
        home = self.folder.parent
        numbers = [int(path.name) for path in home.iterdir() if path.name.isdecimal()]
        earlier = sorted((number for number in numbers if number < self.attempt), reverse=True)
        found = (home / str(number) / name for number in earlier)
        return next((path for path in found if path.is_file()), None)


JobFunction = Callable[[JobContext], Awaitable[Outcome]]
"""Raises `JobError`. Any other exception ends the job as failed with `internal_error`, except `UnavailableError`
(of the database or the blob store), after which it gets another attempt, as after a process that was killed."""


def kinds(settings: Settings) -> dict[str, str]:
    """Return all kinds of jobs that this worker runs."""
    if settings.job_kinds is None:
        return KINDS
    further: Mapping[str, str] = importlib.import_module(settings.job_kinds).KINDS
    return {**KINDS, **further}


def load(path: str) -> JobFunction:
    """Return the function at `module:function`."""
    module, _, name = path.partition(":")
    function: JobFunction = getattr(importlib.import_module(module), name)
    return function
