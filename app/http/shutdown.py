"""Graceful shutdown: first no new requests are sent here, then requests in flight end, then the process does."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

REPEAT_SECONDS = 0.2
"""Signals closer together than this count as one: a process group receives Ctrl-C as its parent does."""

GRACE_SECONDS = 2.5
"""Time for requests in flight."""
STOP_SECONDS = 3.25
"""Time from the end of draining to the end of the process, whatever its threads are doing."""
KILL_SECONDS = 0.5
"""Time after which the kernel ends a process that did not even manage to end itself."""

Handler = Callable[[int, FrameType | None], object]
log = logging.getLogger("hyperserve")


class GracefulShutdown:
    """True once this process has been told to stop. Event streams, which would go on, end then."""

    def __init__(self, seconds: float) -> None:
        """Accept requests for `seconds` after SIGTERM, so that a load balancer can look elsewhere."""
        self._seconds = seconds
        self._begun = asyncio.Event()
        self._signalled: float | None = None

    def __bool__(self) -> bool:
        return self._begun.is_set()

    async def wait(self) -> None:
        await self._begun.wait()

    def begin(self) -> None:
        self._begun.set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle signals before the server that runs this application does, if it has handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        servers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number, handler in servers.items():
            if callable(handler) and handler is not signal.default_int_handler:
                signal.signal(number, self._handler(loop, handler))
        try:
            yield
        finally:
            for number, handler in servers.items():
                signal.signal(number, handler)

    def _handler(self, loop: asyncio.AbstractEventLoop, server: Handler) -> Handler:
        def handle(number: int, frame: FrameType | None) -> None:
            if self._signalled is not None:
                self._repeated(number)
                return
            self._signalled = time.monotonic()
            drain = self._seconds if number == signal.SIGTERM else 0
            # The default action of SIGALRM needs no interpreter, which a decoder may hold.
            signal.setitimer(signal.ITIMER_REAL, drain + STOP_SECONDS + KILL_SECONDS)
            # From the loop: timers and threads are not safe to start in the middle of anything.
            loop.call_soon_threadsafe(_exit_after, drain + STOP_SECONDS)
            loop.call_soon_threadsafe(self.begin)
            if drain > 0:
                loop.call_soon_threadsafe(loop.call_later, drain, server, number, None)
            else:
                server(number, frame)

        return handle

    def _repeated(self, number: int) -> None:
        """Exit at once. One of several serving processes leaves that to their parent."""
        assert self._signalled is not None
        if multiprocessing.parent_process() is None and time.monotonic() - self._signalled > REPEAT_SECONDS:
            os._exit(128 + number)


def _exit_after(seconds: float) -> None:
    """End the process after `seconds`: a thread that decodes cannot be ended, and Python would wait for it."""

    def leave() -> None:
        log.warning("the process ends before all of its work has stopped")
        os._exit(0)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
