"""Fixtures over real servers. Servers are shared by all tests of a run, databases by those of one module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.settings import Settings
from app.db.migrate import upgrade
from tests.servers import postgres, redis
from tests.servers.postgres import Databases, Postgres, own_postgres
from tests.servers.programs import installed_postgres, installed_redis, missing, wheel_postgres, wheel_redis
from tests.servers.redis import Redis, own_redis

BOTH = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Databases of one PostgreSQL server."""
    if given := os.environ.get(postgres.VARIABLE):
        shared = Databases(Settings(database_url=given).database)
        yield shared
        shared.drop_all()
        return
    if installed_postgres() is None and wheel_postgres() is None:
        missing("PostgreSQL", postgres.VARIABLE)
    server = own_postgres()
    server.start()
    yield Databases(server.url)
    server.remove()


@pytest.fixture(scope="module")
def postgres_url(databases: Databases) -> str:
    """SQLAlchemy's URL of a database that is migrated and, for the first test of the module, empty."""
    return databases.migrated()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SQLite at the newest revision, to be copied."""
    file = tmp_path_factory.mktemp("empty") / "hyperserve.db"
    upgrade(f"sqlite+aiosqlite:///{file}")
    return file


@pytest.fixture(params=BOTH)
def database_url(request: pytest.FixtureRequest, empty_database: Path, tmp_path: Path) -> str:
    """A migrated and empty database for each test, once of each kind."""
    if request.param == "postgresql":
        made: Databases = request.getfixturevalue("databases")
        return made.migrated()
    return f"sqlite+aiosqlite:///{shutil.copy(empty_database, tmp_path / 'test.db')}"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a Redis that tests share: keys must be their own."""
    if given := os.environ.get(redis.VARIABLE):
        yield given
        return
    if installed_redis() is None and wheel_redis() is None:
        missing("Redis", redis.VARIABLE)
    server = own_redis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def own_postgres_server() -> Iterator[Postgres]:
    """Started; to be stopped and started by the test."""
    server = own_postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_redis_server(tmp_path: Path) -> Iterator[Redis]:
    """Started; to be stopped and started by the test."""
    server = own_redis(tmp_path)
    server.start()
    yield server
    server.stop()
