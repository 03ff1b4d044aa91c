"""One job in a process of its own: `python -m workers.child JOB ATTEMPT`, started by a supervisor and gone with it.

A crash, a leak or a kill stays in it. It publishes its end itself, under the fencing token of its lease; the
supervisor renews that lease, and takes a process that ended without publishing as lost.
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
from pathlib import Path
from typing import Any, Literal

from obstore.exceptions import BaseError

from app.core.allocator import keep_freed_memory
from app.core.settings import Settings
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.failures import NO_ANSWER
from app.jobs import repository
from app.jobs.repository import Effect
from workers.ipc import Order, Reporter, plain
from workers.jobs import JobContext, JobFailedError, Outcome, load
from workers.logs import configure

TEMPORARY = os.EX_TEMPFAIL
"""Exit status of a child that another attempt may help."""
AWAY = (*NO_ANSWER, BaseError)
PUBLISH_SECONDS = 60.0
"""How long publishing is tried. While the database is away the supervisor ends it earlier, with the lease."""
RETRY_SECONDS = 0.25
_CONNECTIONS = 4
_NICE = 5
_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "800"

log = logging.getLogger("hyperserve")


@dataclass(frozen=True)
class End:
    """How a job ended, to be published."""

    state: Literal["succeeded", "failed"]
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    effect: Effect | None = None
    after: Callable[[], Awaitable[None]] | None = None


# Clients are told nothing that only the log should say.
_BROKEN = End("failed", error={"code": "internal_error", "detail": "The job failed; the log says why."})


def main() -> int:
    _die_with_parent()
    order = Order.read(sys.stdin.buffer)
    threading.Thread(target=_follow_parent, name="parent", daemon=True).start()
    # What the job or a library prints goes to the log; standard output is the supervisor's.
    reporter = Reporter(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    settings = Settings()
    configure(settings)
    keep_freed_memory()
    # The server's answers come first.
    os.nice(_NICE)
    return asyncio.run(run(order, settings, reporter))


async def run(order: Order, settings: Settings, reporter: Reporter) -> int:
    """The exit status: 0 when the end is published, or is not this process's to publish any more."""
    database = Database(settings.database, _CONNECTIONS)
    try:
        context = JobContext(
            id=order.id,
            tenant=order.tenant,
            kind=order.kind,
            attempt=order.attempt,
            token=order.token,
            payload=order.payload,
            folder=Path(order.folder),
            previous=None if order.previous is None else Path(order.previous),
            settings=settings,
            database=database,
            blobs=Blobs.at(settings.blob_url, settings.data_dir),
            progress=reporter,
        )
        await _publish(context, await _work(context, order.function), reporter)
    except AWAY as error:
        log.warning("job %s needs another attempt: %s", order.id, getattr(error, "orig", error))
        return TEMPORARY
    finally:
        await database.close()
    return 0


async def _work(context: JobContext, function: str) -> End:
    try:
        outcome: Outcome = await load(function)(context)
        return End("succeeded", plain(outcome.result), effect=outcome.effect, after=outcome.after)
    except JobFailedError as error:
        return _failed(error)
    except AWAY:
        raise
    except Exception:
        log.exception("job %s (%s) failed", context.id, context.kind)
        return _BROKEN


async def _publish(context: JobContext, end: End, reporter: Reporter) -> None:
    deadline = time.monotonic() + PUBLISH_SECONDS
    while True:
        try:
            return await _publish_once(context, end, reporter)
        except JobFailedError as error:
            end = _failed(error)
        except AWAY:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(RETRY_SECONDS)
        except Exception:
            if end.effect is None:
                raise
            log.exception("job %s (%s) failed to publish", context.id, context.kind)
            end = _BROKEN


async def _publish_once(context: JobContext, end: End, reporter: Reporter) -> None:
    async with context.database.write() as session:
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
        # Or the commit before this one only seemed to fail.
        log.info("job %s is not this process's any more", context.id)


def _failed(error: JobFailedError) -> End:
    return End("failed", error={"code": error.code, "detail": error.detail})


def _die_with_parent() -> None:
    """However the supervisor goes, even while the job holds the interpreter lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Out of memory, the kernel shall take this process first.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def _follow_parent() -> None:
    """Also where the parent was gone before it could be said, or the system knows no such signal."""
    # Not through `sys.stdin`, whose lock would abort the exit of the interpreter.
    while os.read(0, 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(TEMPORARY)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Everything is closed; taking torch apart would take a second more.
    os._exit(status)
