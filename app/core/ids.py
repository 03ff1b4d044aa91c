"""Prefixed ids that sort by the time they were made: 48 bits of milliseconds, 80 random bits."""

from __future__ import annotations

import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
_FORM = re.compile(rf"[a-z]+_[{_ALPHABET}]{{{_LENGTH}}}")


def new_id(prefix: str) -> str:
    """Such as `task_01jd…`: Crockford's base32, lower case."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return prefix + "_" + "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))


def is_id(text: str, prefix: str) -> bool:
    return text.startswith(prefix + "_") and _FORM.fullmatch(text) is not None


def made_ms(id: str) -> int:
    """When an id was made, in milliseconds since 1970."""
    number = 0
    for character in id.partition("_")[2]:
        number = number << 5 | _ALPHABET.index(character)
    return number >> 80
