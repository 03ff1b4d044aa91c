"""The command line that a card or a record shows, so that a result can be made again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence


def recorded_command(*local: str, words: Sequence[str] | None = None) -> str:
    """Return the command that runs, or `words`, without the options in `local`.

    Those say where this machine keeps data and results.
    """
    kept: list[str] = []
    skip = False
    for word in sys.argv[1:] if words is None else words:
        if skip or word.startswith(tuple(f"{name}=" for name in local)):
            skip = False
        elif word in local:
            skip = True
        else:
            kept.append(word)
    return shlex.join(["hyperserve", *kept])
