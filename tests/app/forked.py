"""Processes forked from one that has imported the application: its imports are waited for once, not at each start."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

# Before this, nothing is imported in it. None of these starts a thread when it is imported, which a fork would lose.
PRELOADED = [
    "app.main",
    "app.server",
    "app.worker_process",
    "app.cli.errors",
    "app.cli.serve",
    "hyperserve.cli",
]
PRELOADED += ["aiosqlite", "alembic.command", "psycopg", "rich.traceback", "uvicorn.lifespan.on"]
PRELOADED += ["uvicorn.loops.auto", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


class Forked:
    """`hyperserve` with arguments, with the part of `Popen` that tests use."""

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str],
        out: Path,
        err: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        """Appends to `out`, also what `err` is not given for; runs in `folder`."""
        given = (arguments, dict(environment), out, err or out, folder or Path.cwd())
        # Ended with the tests, should one of them forget it.
        self._process = _context.Process(target=_run, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The status, or minus the signal that ended it."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises `TimeoutError`."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise TimeoutError(f"it still runs after {timeout} s")
        return status

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _run(arguments: list[str], environment: dict[str, str], out: Path, err: Path, folder: Path) -> None:
    os.chdir(folder)
    # In place: modules that are imported already hold the mapping.
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    # It stands for one that a shell started: signals are left to a parent by processes that have one.
    multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
    sys.argv = ["hyperserve", *arguments]
    from hyperserve.cli import main

    main()
