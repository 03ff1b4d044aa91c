"""The worker of a server: a process of its own, restarted if it dies, ended when the server ends."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A worker that ran for this long is restarted after the first pause again."""
STOP_SECONDS = 1.0
"""The server has taken up to 4 s by then. The lease of a slower worker expires."""

log = logging.getLogger("hyperserve")


@contextmanager
def worker_beside() -> Iterator[None]:
    """Run `python -m workers` during the block. Its settings come from the environment."""
    guard = _Guard()
    guard.start()
    try:
        yield
    finally:
        guard.stop()


class _Guard(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="worker", daemon=True)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while (process := self._start()) is not None:
            started = time.monotonic()
            status = process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.warning("the worker ended with status %d; it starts again in %.1f s", status, pause)
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _start(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            command = [sys.executable, "-m", "workers", "--attached"]
            # A group of its own: Ctrl-C is for the server, which then stops the worker. The worker also ends
            # when this pipe closes, however the server ends.
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
            return self._process

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
