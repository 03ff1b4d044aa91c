"""Messages between a supervisor and its children: JSON lines through the child's standard streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

LINE_MAX = 64 << 10
"""Bytes of one line of progress."""
PROGRESS_SECONDS = 1.0
"""Least time between two lines of progress."""


@dataclass(frozen=True)
class JobSpec:
    """A job to run, as its child reads it from standard input, which stays open as long as the supervisor lives."""

    id: str
    tenant: str
    kind: str
    function: str
    """`module:function`."""
    attempt: int
    token: int
    payload: dict[str, Any]
    folder: str
    previous: str | None

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, stream: IO[bytes]) -> JobSpec:
        return cls(**json.loads(stream.readline()))


class ProgressReporter:
    """Sends the newest progress once a second, from its own thread, because jobs block theirs."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._line: bytes | None = None
        self._changed = threading.Event()
        self.newest: dict[str, Any] | None = None
        threading.Thread(target=self._send, name="progress", daemon=True).start()

    def __call__(self, progress: Mapping[str, Any]) -> None:
        """Report progress from any thread. Raises ValueError if it is too long, TypeError if it is not JSON."""
        newest = strict_json(progress)
        line = json.dumps(newest).encode() + b"\n"
        if len(line) > LINE_MAX:
            raise ValueError(f"progress of {len(line)} bytes exceeds the limit of {LINE_MAX}")
        self._line, self.newest = line, newest
        self._changed.set()

    def _send(self) -> None:
        pause = threading.Event()
        while True:
            self._changed.wait()
            self._changed.clear()
            if (line := self._line) is not None:
                try:
                    self._stream.write(line)
                    self._stream.flush()
                except (OSError, ValueError):
                    # The supervisor is gone, and this process will be soon.
                    return
            pause.wait(PROGRESS_SECONDS)


def strict_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document as databases and clients take it: null for numbers that are not finite. Raises TypeError."""
    strict: dict[str, Any] = json.loads(json.dumps(dict(document)), parse_constant=lambda _: None)
    return strict
