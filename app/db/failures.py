"""What it means when the database raises: it is away, it is busy, or the statement is at fault."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

NO_ANSWER = (OperationalError, InterfaceError, PoolTimeoutError)
"""What reading and writing raise when it is away or busy; nothing else of SQLAlchemy's is either."""
_BUSY_SQLITE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_BUSY_STATES = ("40", "55P03", "57014")
"""SQLSTATEs of PostgreSQL: rolled back for another's sake, a lock or a statement that took too long."""


def at_fault(error: Exception) -> bool:
    """Whether it is the statement or the tables that are wrong, which no waiting helps. Of one in `NO_ANSWER`."""
    origin = error.orig if isinstance(error, DBAPIError) else None
    # SQLite calls a table that is not there operational as well.
    return isinstance(origin, sqlite3.Error) and _code(origin) == sqlite3.SQLITE_ERROR


def busy(error: Exception) -> bool:
    """Whether the database answers, but has no time. Of an exception in `NO_ANSWER`, else it is away."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return False
    origin = error.orig
    if isinstance(origin, sqlite3.Error):
        # The low byte: the rest tells which lock it was.
        return _code(origin) in _BUSY_SQLITE
    return str(getattr(origin, "sqlstate", None) or "").startswith(_BUSY_STATES)


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
