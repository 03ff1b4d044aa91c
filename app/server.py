"""Serving processes: one, or several under a parent; SIGTERM ends them gracefully, with status 0."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from socket import socket
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.core.settings import Settings
from app.http.connections import (
    WAIT_SECONDS,
    Connections,
    GuardedProtocol,
    connection_limit,
    raise_file_limit,
)
from app.http.shutdown import GRACE_SECONDS, KILL_SECONDS, REPEAT_SECONDS, STOP_SECONDS
from app.telemetry import logs

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


def run(settings: Settings) -> None:
    """Serve until a signal. Raises `SystemExit` with a status if serving cannot begin."""
    # For the signal that uvicorn raises again after stopping, or one that comes before uvicorn handles signals.
    signal.signal(signal.SIGTERM, _end)
    raise_file_limit()
    options: dict[str, Any] = {
        "factory": True,
        "http": partial(GuardedProtocol, Connections(connection_limit(settings.connections))),
        "ws": "none",
        "timeout_keep_alive": WAIT_SECONDS,
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "timeout_graceful_shutdown": GRACE_SECONDS,
        "access_log": False,
        "server_header": False,
        "log_config": logs.config(settings.log_format, settings.log_level),
    }
    with suppress(_Ended):
        if settings.workers == 1:
            uvicorn.run("app.main:create_app", **options)
        else:
            _run_several(options, settings.drain_seconds + STOP_SECONDS + KILL_SECONDS)


def _run_several(options: dict[str, Any], stop_seconds: float) -> None:
    config = uvicorn.Config("app.main:create_app", **options)
    folder = tempfile.mkdtemp(prefix="hyperserve-metrics-")
    os.environ[MULTIPROCESS] = folder
    try:
        _Parent(config, [config.bind_socket()], stop_seconds).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Ended(SystemExit):
    """SIGTERM came when nothing was left to do, or nothing had begun."""


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Ended(0)


class _Parent(Multiprocess):
    """A parent of serving processes; a second signal, or `stop_seconds` after the first, ends all at once."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket], stop_seconds: float) -> None:
        super().__init__(config, sockets)
        self._stop_seconds = stop_seconds

    def run(self) -> None:
        signalled: float | None = None

        def kill(status: int) -> NoReturn:
            for process in self.processes:
                process.kill()
            os._exit(status)

        def handle(number: int, _frame: FrameType | None) -> None:
            nonlocal signalled
            self.signal_queue.append(number)
            if signalled is None:
                signalled = time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, self._stop_seconds)
            elif time.monotonic() - signalled > REPEAT_SECONDS:
                kill(128 + number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)
        signal.signal(signal.SIGALRM, lambda _number, _frame: kill(0))
        super().run()
        if any(process.exitcode == STARTUP_FAILURE for process in self.processes):
            sys.exit(STARTUP_FAILURE)
