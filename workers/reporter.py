"""Progress of a child on its way to the supervisor."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import IO, Any

from workers.orders import plain, progress_line

SECONDS = 1.0
"""The least time between two messages."""


class Reporter:
    """Sends the newest progress once a second, from a thread of its own: jobs block theirs."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._line: bytes | None = None
        self._told = threading.Event()
        self.newest: dict[str, Any] | None = None
        threading.Thread(target=self._send, name="progress", daemon=True).start()

    def __call__(self, progress: Mapping[str, Any]) -> None:
        """From any thread. Raises ValueError, TypeError."""
        self._line = progress_line(progress)
        self.newest = plain(progress)
        self._told.set()

    def _send(self) -> None:
        pause = threading.Event()
        while True:
            self._told.wait()
            self._told.clear()
            if (line := self._line) is not None:
                try:
                    self._stream.write(line)
                    self._stream.flush()
                except (OSError, ValueError):
                    # The supervisor is gone, and with it soon this process.
                    return
            pause.wait(SECONDS)
