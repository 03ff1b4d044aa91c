"""Files that survive a power cut: flushed to the disk, with the folders that name them, after they are written."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

THREADS = 8
"""The disk commits concurrent flushes together: 25 files took 195 ms one after another and 25 ms this way."""
MANY = 64
"""Files beyond which flushing the whole file system is faster: 2,000 took 305 ms one by one and 76 ms this way."""
STAGED = re.compile(r".+#\d+")
"""Names of files that the store is writing and will rename."""
STAGED_SECONDS = 3_600
"""Age at which a file without changes is not being written any more."""


class Disk:
    """The folder of a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="flush")
        self._next: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def flush(self, names: Collection[str]) -> None:
        """Flush files, relative to the folder, and all folders down to them. A file may be gone. Raises `OSError`."""
        if len(names) > MANY and _SYNCFS is not None:
            # Join a flush that has not begun: one that runs may have begun before the files were written.
            if self._next is None:
                self._next = asyncio.create_task(self._flush_all())
            await asyncio.shield(self._next)
            return
        paths = [self.folder / name for name in names]
        for some in (paths, _folders(paths, self.folder)):
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(self._pool, _flush, path) for path in some))

    async def _flush_all(self) -> None:
        async with self._turn:
            self._next = None
            await asyncio.get_running_loop().run_in_executor(self._pool, _flush_file_system, self.folder)

    def sweep(self) -> int:
        """Delete the files that killed processes have left half-written; return their number."""
        before, swept = time.time() - STAGED_SECONDS, 0
        for path in self.folder.rglob("*#*"):
            # Another process may sweep as well.
            with contextlib.suppress(FileNotFoundError):
                if STAGED.fullmatch(path.name) and path.is_file() and path.stat().st_mtime < before:
                    path.unlink()
                    swept += 1
        return swept


def _folders(paths: Iterable[Path], top: Path) -> set[Path]:
    return {folder for path in paths for folder in path.parents if folder == top or top in folder.parents}


def _flush(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def _flush_file_system(folder: Path) -> None:
    assert _SYNCFS is not None
    file = os.open(folder, os.O_RDONLY)
    try:
        if _SYNCFS(file) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(file)
