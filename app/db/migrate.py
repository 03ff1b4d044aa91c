"""Migrating a database to the revision of this code. Only SQLite is migrated automatically."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, text

from app.core.settings import REPOSITORY, Settings
from app.db.database import CONNECT_SECONDS
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

log = logging.getLogger("hyperserve")


def sync_url(url: str) -> str:
    return url.replace("sqlite+aiosqlite:", "sqlite:", 1)


def alembic_config(url: str) -> Config:
    # Imported here: a server whose database is up to date does not need it.
    from alembic.config import Config

    config = Config(REPOSITORY / "alembic.ini")
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    config.attributes["url"] = sync_url(url)
    return config


def upgrade(url: str) -> None:
    """Migrate to the newest revision. Raises `DatabaseError`."""
    from alembic import command

    with database_errors():
        command.upgrade(alembic_config(url), "head")


def revision(url: str) -> str | None:
    """Return the revision of the database, or None if it is empty. Raises `DatabaseError`."""
    timeout = {"connect_timeout": CONNECT_SECONDS} if url.startswith("postgresql") else {}
    with database_errors():
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
