"""The servers of the tests: every place they may come from works, and their absence is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from sqlalchemy import create_engine, inspect, text

from app.db.migrate import revision
from app.db.tables import REVISION
from tests.servers import programs
from tests.servers.postgres import Databases, Postgres
from tests.servers.redis import Redis

Found = Callable[[], Path | None]


@pytest.mark.parametrize("found", [programs.installed_postgres, programs.wheel_postgres])
def test_postgres(found: Found) -> None:
    """As installed, and from PyPI; stopped and started it holds what it held."""
    place = found()
    if place is None:
        pytest.skip("not of this kind")
    server = Postgres(place)
    server.create()
    server.start()
    made = Databases(server.url)
    empty, migrated = made.empty(), made.migrated()
    server.stop("fast")
    server.start()
    try:
        assert (revision(empty), revision(migrated)) == (None, REVISION)
        engine = create_engine(migrated)
        assert "tasks" in inspect(engine).get_table_names()
        engine.dispose()
        made.drop_all()
        with create_engine(server.url).connect() as connection:
            left = connection.execute(text("SELECT count(*) FROM pg_database WHERE datname LIKE 'hyper%'"))
            assert left.scalar() == 0
    finally:
        server.remove()
    assert not server.folder.exists()


@pytest.mark.parametrize("found", [programs.installed_redis, programs.wheel_redis])
def test_redis(tmp_path: Path, found: Found) -> None:
    program = found()
    if program is None:
        pytest.skip("not of this kind")
    server = Redis(tmp_path, program)
    server.start()
    client = redis.Redis.from_url(server.url)
    assert client.set("x", b"1")
    server.stop()
    server.start()
    assert client.get("x") is None
    client.close()
    server.stop()


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(None, pytest.skip.Exception), ("0", pytest.skip.Exception), ("1", pytest.fail.Exception)],
)
def test_absence_is_told(
    monkeypatch: pytest.MonkeyPatch, value: str | None, outcome: type[BaseException]
) -> None:
    monkeypatch.delenv(programs.REQUIRED, raising=False)
    if value is not None:
        monkeypatch.setenv(programs.REQUIRED, value)
    with pytest.raises(outcome, match="no Redis: install it"):
        programs.missing("Redis", "HYPERSERVE_TEST_REDIS_URL")
