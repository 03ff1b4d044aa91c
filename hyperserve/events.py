"""Server-sent events (WHATWG HTML, 9.2.6), from bytes as they come."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Event:
    """`id` is the last one that was said, by this event or one before."""

    name: str
    data: str
    id: str | None = None


class EventParser:
    """Cuts one stream into events. Not httpx's `iter_lines`, which also cuts at U+2028 within the data."""

    def __init__(self) -> None:
        self._rest = b""
        self._id: str | None = None
        self._name = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in this chunk."""
        text = self._rest + chunk
        self._rest = b""
        # The other half of \r\n may come with the next chunk.
        held = text.endswith(b"\r")
        *lines, self._rest = _LINE_END.split(text[:-1] if held else text)
        self._rest += b"\r" if held else b""
        return [event for line in lines if (event := self._line(line.decode(errors="replace"))) is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            # The standard drops an event without data; `event: end` needs none.
            said = bool(self._name or self._data)
            event = Event(self._name or "message", "\n".join(self._data), self._id)
            self._name, self._data = "", []
            return event if said else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        return None
