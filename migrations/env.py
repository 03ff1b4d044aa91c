"""Runs revisions over a plain connection. The URL is the settings' own unless a caller hands one over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool

import app.db.tables  # noqa: F401 (registers the tables)
from app.core.settings import Settings
from app.db.base import Base
from app.db.migrate import sync_url


def run() -> None:
    url = context.config.attributes.get("url") or sync_url(Settings().database)
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
