"""The end of a process in which everything has been closed."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn


def leave() -> NoReturn:
    """Status 0. Taking torch apart would take a second, and threads of libraries may trip over it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
