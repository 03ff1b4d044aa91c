"""Bringing a database to the revision of this code. Only SQLite is migrated unasked."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from app.settings import REPOSITORY, Settings


class DatabaseRevisionError(Exception):
    """The database is at another revision than this code."""


def sync_url(url: str) -> str:
    return url.replace("sqlite+aiosqlite:", "sqlite:", 1)


def alembic_config(url: str) -> Config:
    config = Config(REPOSITORY / "alembic.ini")
    config.set_main_option("script_location", str(REPOSITORY / "migrations"))
    config.attributes["url"] = sync_url(url)
    return config


def upgrade(url: str) -> None:
    """To the newest revision."""
    command.upgrade(alembic_config(url), "head")


def revisions(url: str) -> tuple[str | None, str | None]:
    """Of the database, and of this code."""
    engine = create_engine(sync_url(url))
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
    return current, ScriptDirectory.from_config(alembic_config(url)).get_current_head()


def prepare_database(settings: Settings) -> None:
    """Raises `DatabaseRevisionError` where an administrator must act."""
    if settings.uses_sqlite:
        upgrade(settings.database)
        return
    current, head = revisions(settings.database)
    if current != head:
        raise DatabaseRevisionError(
            f"the database is at revision {current}, this code needs {head}: run `hyperserve db upgrade`"
        )
