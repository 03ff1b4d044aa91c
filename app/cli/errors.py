"""What is wrong with how a command was called, or where it runs: one line and a status, not a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from app.core.secret import SecretError
from app.core.settings import Settings
from app.db.migrate import DatabaseAwayError, DatabaseRevisionError, reason

MISUSE = 2


def checked_settings() -> Settings:
    """Ends the command where a setting is not as it must be, without repeating its value: it may be a secret."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = f"HYPERSERVE_{'_'.join(map(str, first['loc'])).upper()}"
        stop(f"{name}: {first['msg']}", MISUSE)


@contextmanager
def one_line() -> Iterator[None]:
    """Around what needs the database, the blob store or a file."""
    try:
        yield
    except SecretError as error:
        stop(f"{error}", MISUSE)
    except (DatabaseAwayError, DatabaseRevisionError) as error:
        stop(f"{error}")
    except SQLAlchemyError as error:
        stop(f"the database failed: {reason(error)}")


def stop(message: str, status: int = 1) -> NoReturn:
    typer.echo(f"hyperserve: {message}", err=True)
    raise typer.Exit(status)
