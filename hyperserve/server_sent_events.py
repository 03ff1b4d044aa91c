"""Incremental parser of server-sent events (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Event:
    """One event; `id` is the last id in the stream, set by this event or an earlier one."""

    name: str
    data: str
    id: str | None = None


class EventParser:
    """Split one byte stream into events; httpx's `iter_lines` would also split at U+2028 within the data."""

    def __init__(self) -> None:
        self._rest = b""
        self._id: str | None = None
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that end in this chunk."""
        text = self._rest + chunk
        self._rest = b""
        # The second half of \r\n may come with the next chunk.
        ends_in_cr = text.endswith(b"\r")
        *lines, self._rest = _LINE_END.split(text[:-1] if ends_in_cr else text)
        self._rest += b"\r" if ends_in_cr else b""
        return [event for line in lines if (event := self._line(line.decode(errors="replace"))) is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            # The standard drops an event without data; `event: end` needs none.
            complete = bool(self._name or self._data)
            event = Event(self._name or "message", "\n".join(self._data), self._id)
            self._name, self._data = "", []
            return event if complete else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None
