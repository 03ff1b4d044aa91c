"""Options of the form key=value."""

from __future__ import annotations

import json
from typing import Any


def key_value(pair: str) -> tuple[str, Any]:
    """The value is JSON where it can be read so, and else text."""
    key, _, value = pair.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
