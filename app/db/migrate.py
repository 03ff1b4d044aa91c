"""Bringing a database to the revision of this code. Only SQLite is migrated unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, text

from app.db.tables import REVISION
from app.settings import REPOSITORY, Settings

if TYPE_CHECKING:
    from alembic.config import Config


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
    engine = create_engine(sync_url(url))
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return found
    finally:
        engine.dispose()


def prepare_database(settings: Settings) -> None:
    """Raises `DatabaseRevisionError` where an administrator must act."""
    current = revision(settings.database)
    if current == REVISION:
        return
    if not settings.uses_sqlite:
        raise DatabaseRevisionError(
            f"the database is at revision {current}, this code needs {REVISION}: run `hyperserve db upgrade`"
        )
    upgrade(settings.database)
