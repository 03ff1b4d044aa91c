"""What a supervisor tells a child, and what it hears from it: JSON lines through the child's standard streams."""

from __future__ import annotations

import json
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
