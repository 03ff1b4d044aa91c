"""Every revision runs up and down, on SQLite and on PostgreSQL, and ends at the tables of the code."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine, insert, inspect, select, text

from app.core.settings import Settings
from app.db.base import now
from app.db.migrate import (
    DatabaseAwayError,
    DatabaseRevisionError,
    alembic_config,
    prepare_database,
    revision,
    sync_url,
    upgrade,
)
from app.db.tables import REVISION, Base, ExampleRow, JobRow, TaskRow, VersionExampleRow, VersionRow
from tests.servers.postgres import Databases, Postgres

TABLES = set(Base.metadata.tables)


@pytest.fixture(scope="module")
def postgres(databases: Databases) -> str:
    return databases.empty()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    found: str = request.getfixturevalue("postgres")
    return found


def tables(url: str) -> set[str]:
    engine = create_engine(sync_url(url))
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_up_and_down(url: str) -> None:
    upgrade(url)
    assert tables(url) == {*TABLES, "alembic_version"}
    assert revision(url) == REVISION
    command.check(alembic_config(url))
    command.downgrade(alembic_config(url), "base")
    assert tables(url) == {"alembic_version"}
    upgrade(url)
    assert tables(url) >= TABLES


def test_tasks_of_values_go_with_their_revision_and_others_stay(url: str) -> None:
    upgrade(url)
    engine = create_engine(sync_url(url))
    with engine.begin() as connection:
        for name, target in (("valued", 2), ("labelled", None)):
            common = {"tenant": "t", "task_id": name, "created_at": now()}
            version = {"number": 1, "learner": "l", "learner_digest": "d", "seed": 1, "shape": [1]}
            rows: list[tuple[type[Base], dict[str, Any]]] = [
                (TaskRow, {"id": name, "tenant": "t", "current": 1}),
                (
                    VersionRow,
                    {"id": f"v-{name}", "classes": [], "shots": [1], "target": target} | version | common,
                ),
                (
                    ExampleRow,
                    {"id": f"e-{name}", "label": "", "kind": "vector", "blob": "0" * 64}
                    | {"target": target and [0.1, 2.0]}
                    | common,
                ),
                (
                    VersionExampleRow,
                    {"version_id": f"v-{name}", "position": 0, "example_id": f"e-{name}", "tenant": "t"},
                ),
            ]
            for table, row in rows:
                connection.execute(insert(table), row)
        kept = connection.execute(select(ExampleRow.target).order_by(ExampleRow.id)).scalars().all()
        assert kept == [None, [0.1, 2.0]]
    engine.dispose()
    command.downgrade(alembic_config(url), "0002")
    with create_engine(sync_url(url)).begin() as connection:
        for table in ("tasks", "versions", "examples", "version_examples"):
            column = "version_id" if table == "version_examples" else "id"
            (left,) = connection.execute(text(f"SELECT {column} FROM {table}")).scalars()
            assert left.endswith("labelled")
    command.downgrade(alembic_config(url), "base")


def test_jobs_of_streams_go_with_their_revision_and_others_stay(url: str) -> None:
    upgrade(url)
    job = {"tenant": "t", "kind": "k", "payload": {}, "run_at": 1}
    engine = create_engine(sync_url(url))
    with engine.begin() as connection:
        connection.execute(
            insert(JobRow), [{"id": "a", "lane": None, **job}, {"id": "b", "lane": "s", **job}]
        )
    engine.dispose()
    command.downgrade(alembic_config(url), "0003")
    with create_engine(sync_url(url)).begin() as connection:
        assert list(connection.execute(text("SELECT id FROM jobs")).scalars()) == ["a"]
    command.downgrade(alembic_config(url), "base")


def test_every_table_has_a_tenant() -> None:
    for table in Base.metadata.tables.values():
        assert not table.columns["tenant"].nullable


def test_sqlite_is_migrated_unasked(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    prepare_database(settings)
    prepare_database(settings)
    assert tables(settings.database) >= TABLES


def test_another_database_is_not(postgres: str) -> None:
    command.downgrade(alembic_config(postgres), "base")
    settings = Settings(database_url=postgres)
    with pytest.raises(DatabaseRevisionError, match="hyperserve db upgrade"):
        prepare_database(settings)
    upgrade(settings.database)
    prepare_database(settings)


def test_a_server_that_starts_later_is_waited_for(own_postgres_server: Postgres) -> None:
    settings = Settings(database_url=own_postgres_server.url)
    upgrade(settings.database)
    own_postgres_server.stop()
    with pytest.raises(DatabaseAwayError, match="does not answer"):
        prepare_database(settings)
    later = threading.Timer(1, own_postgres_server.start)
    later.start()
    prepare_database(settings, 30)
    later.join()


def test_a_file_that_cannot_be_opened_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(DatabaseAwayError, match="unable to open database file"):
        prepare_database(Settings(database_url=f"sqlite:///{tmp_path}/none/x.db"), 30)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (None, "sqlite+aiosqlite:////data/hyperserve.db"),
        ("sqlite:///x.db", "sqlite+aiosqlite:///x.db"),
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
    ],
)
def test_urls(given: str | None, used: str) -> None:
    assert Settings(database_url=given, data_dir=Path("/data")).database == used


def test_migrating_inside_a_running_loop(tmp_path: Path) -> None:
    """Migrate in a thread, like a starting server."""

    async def main() -> None:
        await asyncio.to_thread(prepare_database, Settings(data_dir=tmp_path))

    asyncio.run(main())
