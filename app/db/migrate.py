"""Migrating a database to the revision of this code. Only SQLite is migrated automatically."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import make_url

from app.core.data_folder import printable
from app.core.settings import REPOSITORY, Settings
from app.db.errors import (
    DatabaseAwayError,
    DatabaseError,
    DatabaseRevisionError,
    DatabaseUnavailableError,
    database_errors,
)
from app.db.tables import REVISION

if TYPE_CHECKING:
    from alembic.config import Config


WAIT_SECONDS = 30.0
"""Time that a starting server waits for its database, which may be starting as well."""
_RETRY_SECONDS = 0.5
_CONNECT_SECONDS = 2
"""Time that a server may take to answer; libpq knows no less."""

log = logging.getLogger("hyperserve")


def sync_url(url: str) -> str:
    """Return the URL of the same database for a blocking driver."""
    return url.replace("sqlite+aiosqlite:", "sqlite:", 1)


def database_file(url: str) -> Path | None:
    """Return the file of a SQLite database, or None for another database."""
    path = make_url(url).database if url.startswith("sqlite") else None
    return None if path is None else Path(path)


@contextmanager
def _errors_with_file(url: str) -> Iterator[None]:
    """Raise what SQLAlchemy raises in the block as errors of `app.db.errors`, which name the file of a database."""
    try:
        with database_errors():
            yield
    except DatabaseError as error:
        file = database_file(url)
        if file is None:
            raise
        raise type(error)(f"{printable(file)}: {error}") from error.__cause__


def alembic_config(url: str) -> Config:
    # Imported here: a server whose database is up to date does not need it.
    from alembic.config import Config

    config = Config(REPOSITORY / "alembic.ini")
    config.set_main_option("script_location", str(REPOSITORY / "migrations").replace("%", "%%"))
    config.attributes["url"] = sync_url(url)
    return config


def upgrade(url: str) -> None:
    """Migrate to the newest revision. Raises `DatabaseError`."""
    from alembic import command

    with _errors_with_file(url):
        command.upgrade(alembic_config(url), "head")


def revision(url: str) -> str | None:
    """Return the revision of the database, or None if it is empty. Raises `DatabaseError`."""
    timeout = {"connect_timeout": _CONNECT_SECONDS} if url.startswith("postgresql") else {}
    with _errors_with_file(url):
        engine = create_engine(sync_url(url), connect_args=timeout)
        try:
            with engine.connect() as connection:
                if not inspect(connection).has_table("alembic_version"):
                    return None
                found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
                return found
        finally:
            engine.dispose()


def prepare_database(settings: Settings, wait_seconds: float = 0.0) -> None:
    """Migrate SQLite, and check the revision of other databases.

    Raises `DatabaseRevisionError` if an administrator must act, `DatabaseAwayError` if a server does not answer
    within `wait_seconds` or a file cannot be opened.
    """
    current = _wait_for_revision(settings, wait_seconds)
    if current == REVISION:
        return
    if not settings.uses_sqlite:
        raise DatabaseRevisionError(
            f"the database is at revision {current}, this code needs {REVISION}: run `hyperserve db upgrade`"
        )
    upgrade(settings.database)


def _wait_for_revision(settings: Settings, wait_seconds: float) -> str | None:
    deadline, logged = time.monotonic() + wait_seconds, False
    while True:
        try:
            return revision(settings.database)
        except DatabaseUnavailableError as error:
            if settings.uses_sqlite or time.monotonic() > deadline:
                raise DatabaseAwayError(f"the database does not answer: {error}") from error
            if not logged:
                log.warning("waiting for the database: %s", error)
                logged = True
        except DatabaseError as error:
            raise DatabaseAwayError(f"the database cannot be used: {error}") from error
        time.sleep(_RETRY_SECONDS)
