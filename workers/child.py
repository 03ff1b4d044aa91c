"""The process of one job: `python -m workers.child JOB ATTEMPT`, started by a supervisor and ended with it.

It contains crashes, leaks and kills. It publishes the outcome of the job itself, under the fencing token of the lease,
which the supervisor renews; a process that exits without publishing counts as lost.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from logging.config import dictConfig
from pathlib import Path
from typing import Any, Literal

from app.core.allocator import keep_freed_memory
from app.core.errors import UnavailableError
from app.core.settings import Settings
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.tenancy import Store
from app.jobs import repository
from app.jobs.repository import Effect
from app.telemetry import logs
from workers.ipc import JobSpec, ProgressReporter, strict_json
from workers.jobs import JobContext, JobError, Outcome, load

TEMPORARY = os.EX_TEMPFAIL
"""Exit status of a child whose job needs another attempt."""
PUBLISH_SECONDS = 60.0
"""Time limit for publishing. The supervisor ends it earlier if the lease lapses while the database is away."""
RETRY_SECONDS = 0.25
_CONNECTIONS = 4
_NICE = 5
_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "800"

log = logging.getLogger("hyperserve")


@dataclass(frozen=True)
class JobEnd:
    """The end of a job, to be published."""

    state: Literal["succeeded", "failed"]
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    effect: Effect | None = None
    after: Callable[[], Awaitable[None]] | None = None


# Clients see nothing that belongs in the log alone.
_INTERNAL_ERROR = JobEnd(
    "failed", error={"code": "internal_error", "detail": "The job failed; the log says why."}
)


def main() -> int:
    _die_with_parent()
    spec = JobSpec.read(sys.stdin.buffer)
    threading.Thread(target=_exit_with_parent, name="parent", daemon=True).start()
    # The log takes what the job or a library prints; standard output is for the supervisor.
    reporter = ProgressReporter(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    settings = Settings()
    dictConfig(logs.config(settings.log_format, settings.log_level))
    keep_freed_memory()
    # Requests to the server come first.
    os.nice(_NICE)
    return asyncio.run(run(spec, settings, reporter))


async def run(spec: JobSpec, settings: Settings, reporter: ProgressReporter) -> int:
    """Return the exit status: 0 if the end is published, or if this process may no longer publish it."""
    database = Database(settings.database, _CONNECTIONS)
    blobs = Blobs.at(settings.blob_url, settings.data_dir)
    try:
        context = JobContext(
            id=spec.id,
            kind=spec.kind,
            attempt=spec.attempt,
            token=spec.token,
            payload=spec.payload,
            folder=Path(spec.folder),
            previous=None if spec.previous is None else Path(spec.previous),
            settings=settings,
            collector=BlobCollector(database, blobs),
            store=Store(spec.tenant, database, blobs),
            progress=reporter,
        )
        await _publish(context, await _run(context, spec.function), reporter)
    except UnavailableError as error:
        log.warning("job %s needs another attempt: %s", spec.id, error)
        return TEMPORARY
    finally:
        await database.close()
    return 0


async def _run(context: JobContext, function: str) -> JobEnd:
    try:
        outcome: Outcome = await load(function)(context)
        return JobEnd("succeeded", strict_json(outcome.result), effect=outcome.effect, after=outcome.after)
    except JobError as error:
        return _failed(error)
    except UnavailableError:
        raise
    except Exception:
        log.exception("job %s (%s) failed", context.id, context.kind)
        return _INTERNAL_ERROR


async def _publish(context: JobContext, end: JobEnd, reporter: ProgressReporter) -> None:
    deadline = time.monotonic() + PUBLISH_SECONDS
    while True:
        try:
            return await _publish_once(context, end, reporter)
        except JobError as error:
            end = _failed(error)
        except UnavailableError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:
            if end.effect is None:
                raise
            log.exception("job %s (%s) failed to publish", context.id, context.kind)
            end = _INTERNAL_ERROR


async def _publish_once(context: JobContext, end: JobEnd, reporter: ProgressReporter) -> None:
    # The effect may name blobs.
    async with context.collector.naming(context.store) as session:
        published = await repository.finish(
            session,
            context.id,
            context.token,
            end.state,
            end.result,
            end.error,
            progress=reporter.newest,
            effect=end.effect,
        )
    if published:
        log.info("job %s (%s): %s", context.id, context.kind, end.state)
        if end.after is not None:
            await end.after()
    else:
        # Or an earlier commit only seemed to fail.
        log.info("job %s belongs to another process by now", context.id)


def _failed(error: JobError) -> JobEnd:
    return JobEnd("failed", error={"code": error.code, "detail": error.detail})


def _die_with_parent() -> None:
    """Be killed with the supervisor, however it ends, even while the job holds the interpreter lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # If memory runs out, the kernel kills this process first.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def _exit_with_parent() -> None:
    """Exit when the supervisor does, even if it was gone before `_die_with_parent`, or the system is not Linux."""
    # Not through `sys.stdin`, whose lock would abort the exit of the interpreter.
    while os.read(0, 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(TEMPORARY)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Everything is closed; tearing torch down would take another second.
    os._exit(status)
