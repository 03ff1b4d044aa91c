"""Room on the disk: creations stop while there is still some left, so that deletions can make more."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 64 << 20
"""Free space below which nothing is created; on a small disk a tenth of it."""
SPARE_BYTES = 4 << 20
"""Size of the file that is given up when other programs fill the disk; on a small one half of the reserve."""


def is_low(folder: Path) -> bool:
    """Return True if creations must stop. A folder that is missing or of unknown size has room. Raises nothing."""
    try:
        free, reserve = _space(folder)
    except OSError:
        return False
    return free < reserve


class SpareRoom:
    """A file beside a SQLite database that is deleted when the disk is full: even a deletion must write first."""

    def __init__(self, database: Path) -> None:
        self._file = database.with_name(f"{database.name}.spare")
        self._held: bool | None = None
        """None if it is unknown."""

    def adjust(self) -> None:
        """Give the room up if the disk is almost full, take it back if there is much. Raises nothing."""
        with contextlib.suppress(OSError):
            free, reserve = _space(self._file.parent)
            size = min(SPARE_BYTES, reserve // 2)
            if free < size // 4:
                self._held = False
                self._file.unlink(missing_ok=True)
            elif not self._held and free > reserve + 2 * size:
                self._held = self._file.exists() or self._take(size)

    def _take(self, size: int) -> bool:
        draft = self._file.with_name(f"{self._file.name}#{os.getpid()}")
        try:
            with draft.open("wb") as file:
                _allocate(file.fileno(), size)
            draft.rename(self._file)
        finally:
            draft.unlink(missing_ok=True)
        return True


def _space(folder: Path) -> tuple[int, int]:
    """Return the free bytes of a file system, and those that creations leave free."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, min(RESERVE_BYTES, found.f_blocks * found.f_frsize // 10)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.write(descriptor, bytes(size))
