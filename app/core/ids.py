"""Prefixed ids that sort by the time they were made: a ULID in lower case, such as `task_01jd…`."""

from __future__ import annotations

import re
import secrets
import threading
import time

from ulid import ULID

_RANDOM_BITS = 80
_STEP_BITS = 64
"""Two ids of one millisecond differ by a random number of so many bits: nobody guesses an id from another one."""
_ID = re.compile(r"[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}")


class _Ulids:
    """ULIDs that only grow, whatever the clock of the machine does, across all threads of the process."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> ULID:
        with self._lock:
            now = time.time_ns() // 1_000_000 << _RANDOM_BITS
            if now >> _RANDOM_BITS > self._last >> _RANDOM_BITS:
                # Without its highest bit: later ids of the same millisecond have room above it.
                self._last = now | secrets.randbits(_RANDOM_BITS - 1)
            else:
                # The same millisecond, or the clock has been set back. Steps may run on into the next millisecond.
                self._last += 1 + secrets.randbits(_STEP_BITS)
            return ULID.from_int(self._last)


_ulids = _Ulids()


def new_id(prefix: str) -> str:
    """Return a new id, which is greater than all that this process has made before."""
    return f"{prefix}_{_ulids.next()}".lower()


def is_id(text: str, prefix: str) -> bool:
    return text.startswith(prefix + "_") and _ID.fullmatch(text) is not None


def created_ms(id: str) -> int:
    """Return the time at which an id was made, in milliseconds since 1970."""
    return ULID.from_str(id.partition("_")[2].upper()).milliseconds
