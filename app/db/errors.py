"""Errors of the database. `Database` raises these alone; what SQLAlchemy raised is their `__cause__`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.errors import AppError, UnavailableError

_FULL_SQLITE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_FULL_STATE = "53100"
_BUSY_SQLITE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_BUSY_STATES = ("40", "55P03", "57014")
"""SQLSTATEs of PostgreSQL: rolled back for the sake of another, a lock or a statement that took too long."""


class DatabaseError(AppError):
    """The database failed; the message is the first line of the driver's."""


class DatabaseUnavailableError(DatabaseError, UnavailableError):
    """The database does not answer now."""


class DatabaseBusyError(DatabaseUnavailableError):
    """The database is there, but has no time."""


class DatabaseFullError(DatabaseUnavailableError):
    """The disk of the database is full."""


class DatabaseAwayError(DatabaseUnavailableError):
    """The database does not answer, or its URL leads to none."""


class DatabaseStatementError(DatabaseError):
    """A statement or a table is wrong, which no waiting helps: a fault of the program."""


class DatabaseRevisionError(DatabaseError):
    """The database is at another revision than this code."""


@contextmanager
def database_errors() -> Iterator[None]:
    """Raise what SQLAlchemy raises in the block as an error of this module."""
    try:
        yield
    except SQLAlchemyError as error:
        kind = _kind(error)
        # The first line of the driver's message, which holds no password.
        raise kind(f"{getattr(error, 'orig', None) or error}".partition("\n")[0]) from error


def _kind(error: SQLAlchemyError) -> type[DatabaseError]:
    if not isinstance(error, OperationalError | InterfaceError | PoolTimeoutError) or _is_at_fault(error):
        return DatabaseStatementError
    if _is_full(error):
        return DatabaseFullError
    return DatabaseBusyError if _is_busy(error) else DatabaseAwayError


def _is_at_fault(error: SQLAlchemyError) -> bool:
    origin = error.orig if isinstance(error, DBAPIError) else None
    # SQLite calls a missing table operational as well.
    return isinstance(origin, sqlite3.Error) and _code(origin) == sqlite3.SQLITE_ERROR


def _is_full(error: SQLAlchemyError) -> bool:
    origin = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(origin, sqlite3.Error):
        return getattr(origin, "sqlite_errorcode", None) in _FULL_SQLITE
    return getattr(origin, "sqlstate", None) == _FULL_STATE


def _is_busy(error: SQLAlchemyError) -> bool:
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return False
    origin = error.orig
    if isinstance(origin, sqlite3.Error):
        # The low byte: the rest says which lock it was.
        return _code(origin) in _BUSY_SQLITE
    return str(getattr(origin, "sqlstate", None) or "").startswith(_BUSY_STATES)


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
