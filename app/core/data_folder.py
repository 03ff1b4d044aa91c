"""The folder of the database, the blobs and the secret: made at the start, refused if it cannot be used."""

from __future__ import annotations

import tempfile
from pathlib import Path

from app.core.errors import AppError

_FOLDERS = ("blobs", "learners", "scratch")


class DataFolderError(AppError):
    """The data folder cannot be used; the message names it and says why."""


def open_data_folder(folder: Path) -> None:
    """Make the folder unless it exists, and check that files can be written there. Raises `DataFolderError`."""
    shown = printable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder / name for name in _FOLDERS):
            if path.exists() and not path.is_dir():
                raise DataFolderError(f"{printable(path)} must be a folder: move the file elsewhere")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise DataFolderError(f"the data folder {shown} cannot be made: a file has its name") from error
    except OSError as error:
        raise DataFolderError(f"the data folder {shown} cannot be used: {error.strerror or error}") from error


def printable(path: Path) -> str:
    """Return a path as it is, or quoted with escapes if it has characters that break a line or cannot be printed."""
    shown = str(path.absolute())
    return shown if shown.isprintable() else repr(shown)
