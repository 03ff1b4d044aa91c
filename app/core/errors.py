"""The roots of every exception of `app`: `except AppError` catches all that the application raises on purpose."""

from __future__ import annotations

import errno

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of operating-system errors: a disk or a quota is full."""
OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})
"""Numbers of operating-system errors: the process or the machine has no file descriptor left."""


class AppError(Exception):
    """The application cannot do something; the message says what and where."""


class UnavailableError(AppError):
    """A service that this one depends on does not answer; the same attempt may succeed later."""
