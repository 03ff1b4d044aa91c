"""Bringing a database to the revision of this code. Only SQLite is migrated unasked."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from app.core.settings import REPOSITORY, Settings
from app.db.engine import CONNECT_SECONDS
from app.db.tables import REVISION

if TYPE_CHECKING:
    from alembic.config import Config


WAIT_SECONDS = 30.0
"""How long a server that starts waits for its database, which may be starting as well."""
_AGAIN_SECONDS = 0.5

log = logging.getLogger("hyperserve")


class DatabaseAwayError(Exception):
    """The database does not answer, or its URL leads to none."""


class DatabaseRevisionError(Exception):
    """The database is at another revision than this code."""


def sync_url(url: str) -> str:
    return url.replace("sqlite+aiosqlite:", "sqlite:", 1)


def alembic_config(url: str) -> Config:
    # Imported here: a server whose database is up to date does without.
    from alembic.config import Config

    config = Config(REPOSITORY / "alembic.ini")
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    config.attributes["url"] = sync_url(url)
    return config


def upgrade(url: str) -> None:
    """To the newest revision."""
    from alembic import command

    command.upgrade(alembic_config(url), "head")


def revision(url: str) -> str | None:
    """Of the database; None when it is empty."""
    timeout = {"connect_timeout": CONNECT_SECONDS} if url.startswith("postgresql") else {}
    engine = create_engine(sync_url(url), connect_args=timeout)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return found
    finally:
        engine.dispose()


def prepare_database(settings: Settings, wait_seconds: float = 0.0) -> None:
    """Raises `DatabaseRevisionError` where an administrator must act, `DatabaseAwayError` where a server does not
    answer within `wait_seconds`, or a file cannot be opened."""
    current = _reached(settings, wait_seconds)
    if current == REVISION:
        return
    if not settings.uses_sqlite:
        raise DatabaseRevisionError(
            f"the database is at revision {current}, this code needs {REVISION}: run `hyperserve db upgrade`"
        )
    upgrade(settings.database)


def reason(error: Exception) -> str:
    """The first line of what the driver says, which names no password."""
    return f"{getattr(error, 'orig', None) or error}".partition("\n")[0]


def _reached(settings: Settings, wait_seconds: float) -> str | None:
    deadline, told = time.monotonic() + wait_seconds, False
    while True:
        try:
            return revision(settings.database)
        except OperationalError as error:
            if settings.uses_sqlite or time.monotonic() > deadline:
                raise DatabaseAwayError(f"the database does not answer: {reason(error)}") from error
            if not told:
                log.warning("waiting for the database: %s", reason(error))
                told = True
        except SQLAlchemyError as error:
            raise DatabaseAwayError(f"the database cannot be used: {reason(error)}") from error
        time.sleep(_AGAIN_SECONDS)
