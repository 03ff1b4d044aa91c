"""Prefixed ids that sort by the time they were made: a ULID in lower case, such as `task_01jd…`."""

from __future__ import annotations

import re

from ulid import ULID

_ID = re.compile(r"[a-z]+_[0-7][0-9a-hjkmnp-tv-z]{25}")


def new_id(prefix: str) -> str:
    return f"{prefix}_{ULID()}".lower()


def is_id(text: str, prefix: str) -> bool:
    return text.startswith(prefix + "_") and _ID.fullmatch(text) is not None


def created_ms(id: str) -> int:
    """Return the time at which an id was made, in milliseconds since 1970."""
    return ULID.from_str(id.partition("_")[2].upper()).milliseconds
