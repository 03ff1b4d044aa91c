"""What a supervisor tells a child, and what it hears from it: JSON lines through the child's standard streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

LINE_MAX = 64 << 10
"""Bytes of one line of progress."""


@dataclass(frozen=True)
class Order:
    """A job to run. It comes by standard input, which stays open: its end is the supervisor's."""

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
    def read(cls, stream: IO[bytes]) -> Order:
        return cls(**json.loads(stream.readline()))


def plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """As strict JSON, which databases and clients take: null for what is not finite. Raises TypeError."""
    strict: dict[str, Any] = json.loads(json.dumps(dict(document)), parse_constant=lambda _: None)
    return strict


def progress_line(document: Mapping[str, Any]) -> bytes:
    """Raises ValueError where it is too long, TypeError where it is not JSON."""
    line = json.dumps(plain(document)).encode() + b"\n"
    if len(line) > LINE_MAX:
        raise ValueError(f"progress of {len(line)} bytes; at most {LINE_MAX} are sent")
    return line


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
