"""The end of a command: the table of exit codes, the one printer of errors, and the fast exit.

| code | meaning |
|---|---|
| 0 | done |
| 1 | failed: the server, the database, the storage or a training failed; the same command may succeed later |
| 2 | misuse: an option, a setting, a path, the data or the learner cannot be used; the command must be changed |
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

import typer
from pydantic import ValidationError

from app.core.data_folder import DataFolderError
from app.core.errors import AppError
from app.core.secret import SecretError
from app.core.settings import Settings
from app.db.errors import DatabaseError
from hyperserve import HyperserveError
from hyperserve.errors import InvalidArgumentError
from models.errors import DownloadError, ModelError


class ExitCode(IntEnum):
    """Statuses with which a command ends."""

    OK = 0
    FAILED = 1
    MISUSE = 2


class CommandError(AppError):
    """The command cannot do its work; the message says why."""


class MisuseError(CommandError):
    """The command cannot work as it was called."""


_EXIT_CODES: dict[type[Exception], ExitCode] = {
    MisuseError: ExitCode.MISUSE,
    ValidationError: ExitCode.MISUSE,
    DataFolderError: ExitCode.MISUSE,
    SecretError: ExitCode.MISUSE,
    DownloadError: ExitCode.FAILED,
    ModelError: ExitCode.MISUSE,
    InvalidArgumentError: ExitCode.MISUSE,
    FileNotFoundError: ExitCode.MISUSE,
    NotADirectoryError: ExitCode.MISUSE,
    IsADirectoryError: ExitCode.MISUSE,
    OSError: ExitCode.FAILED,
    HyperserveError: ExitCode.FAILED,
    AppError: ExitCode.FAILED,
}
"""Exit codes by error; the first entry that fits counts."""


@contextmanager
def printed_errors() -> Iterator[None]:
    """End the command with one message and an exit code if it raises an error of the table."""
    try:
        yield
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        typer.echo(f"hyperserve: {_message(error)}", err=True)
        raise typer.Exit(code) from error


def exit_code(error: Exception) -> ExitCode | None:
    """Return the exit code of an error, or None if it is a fault of the code and deserves a traceback."""
    if isinstance(error, BrokenPipeError):
        # typer ends the command quietly.
        return None
    for kind, code in _EXIT_CODES.items():
        if isinstance(error, kind):
            return code
    return None


def _message(error: Exception) -> str:
    if isinstance(error, DatabaseError) and not f"{error}".startswith("the database"):
        # The driver's own words.
        return f"the database failed: {error}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ValidationError):
        return "\n".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ")
            for one in error.errors(include_input=False, include_url=False, include_context=False)
        )
    return f"{error}"


def checked_settings() -> Settings:
    """Return the settings. Raises `MisuseError` naming a wrong one without its value, which may be a secret."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = f"HYPERSERVE_{'_'.join(map(str, first['loc'])).upper()}"
        raise MisuseError(f"{name}: {first['msg']}") from error


def leave() -> NoReturn:
    """End a process whose work is done, with status 0.

    Taking torch apart would take a second, and threads of libraries may trip over it.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.OK)
