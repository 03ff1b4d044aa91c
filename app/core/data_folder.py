"""The folder of the database, the blobs and the secret: made at the start, refused if it cannot be used."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from app.core.errors import AppError

_FOLDERS = ("blobs", "jobs", "learners", "scratch")


_DATABASE = "hyperserve.db*"
_PRIVATE = 0o077
"""Bits of a mode that this process takes from everybody but the owner."""


class DataFolderError(AppError):
    """The data folder cannot be used; the message names it and says why."""


def make_files_private() -> None:
    """Let this process and its children make files and folders that nobody but their owner can open.

    Inputs, labels and secrets are in them: the database, blobs, uploads, checkpoints, backups.
    """
    os.umask(_PRIVATE)


def open_data_folder(folder: Path) -> None:
    """Make the folder unless it exists, and check that files can be written there. Raises `DataFolderError`."""
    shown = printable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / name for name in _FOLDERS):
            if path.exists() and not path.is_dir():
                raise DataFolderError(f"{printable(path)} must be a folder: move the file elsewhere")
            _close_to_others(path)
        for path in folder.glob(_DATABASE):
            _close_to_others(path)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise DataFolderError(f"the data folder {shown} cannot be made: a file has its name") from error
    except OSError as error:
        raise DataFolderError(f"the data folder {shown} cannot be used: {error.strerror or error}") from error


def _close_to_others(path: Path) -> None:
    """Make private what an earlier version has left open. It may be missing, or belong to another user."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        mode = path.stat().st_mode
        if mode & _PRIVATE:
            path.chmod(mode & ~_PRIVATE)


def printable(path: Path) -> str:
    """Return a path as it is, or quoted with escapes if it has characters that break a line or cannot be printed."""
    shown = str(path.absolute())
    return shown if shown.isprintable() else repr(shown)
