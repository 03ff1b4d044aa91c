"""Two API processes of one service."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis

from tests.app.problems import OK, create
from tests.app.server import Server
from tests.servers.postgres import Databases, Postgres
from tests.servers.redis import Redis

SEEN_SECONDS = 2.0
"""Within which a change by one process is seen by the other."""


@dataclass
class Pair:
    """On SQLite alone, or on PostgreSQL and Redis of its own."""

    one: Server
    other: Server
    postgres: Postgres | None = None
    redis: Redis | None = None

    def start(self) -> None:
        self.one.start(wait=False)
        if self.postgres is None:
            # It brings the database to its revision.
            self.one.wait_until_ready()
        self.other.start()
        self.one.wait_until_ready()

    def stop(self) -> None:
        for server in self.servers:
            if hasattr(server, "process"):
                server.stop()
        if self.redis is not None:
            self.redis.stop()
        if self.postgres is not None:
            self.postgres.remove()

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.one, self.other

    def keys(self) -> list[str]:
        """Of weights in Redis."""
        assert self.redis is not None
        with redis.Redis.from_url(self.redis.url) as direct:
            return sorted(key.decode() for key in direct.scan_iter("hyperserve:weights:*"))


def on_sqlite(folder: Path, zoo: Path, streams: Path | None = None) -> Pair:
    environment = _with(streams)
    return Pair(Server(folder / "data", zoo, environment), Server(folder / "data", zoo, environment))


def on_servers(
    folder: Path, zoo: Path, postgres: Postgres, cache: Redis, streams: Path | None = None
) -> Pair:
    """Of two machines that share nothing but servers and blobs."""
    environment = {
        **_with(streams),
        "HYPERSERVE_DATABASE_URL": Databases(postgres.url).migrated(),
        "HYPERSERVE_REDIS_URL": cache.url,
        "HYPERSERVE_SECRET": "sixteen or more characters",
        "HYPERSERVE_BLOB_URL": (folder / "blobs").as_uri(),
    }
    (folder / "blobs").mkdir()
    return Pair(
        Server(folder / "one", zoo, environment), Server(folder / "other", zoo, environment), postgres, cache
    )


def _with(streams: Path | None) -> dict[str, str]:
    return {} if streams is None else {"HYPERSERVE_STREAMS_DIR": str(streams)}


def new_task(server: Server) -> str:
    made = create(server.client, support={"a": OK, "b": OK})
    assert made.status_code == 201, made.text
    found: str = made.json()["id"]
    return found


def ask(server: Server, task: str) -> httpx.Response:
    return server.client.post(f"/v1/tasks/{task}/predict", json={"queries": OK})


def answer(server: Server, task: str) -> dict[str, Any]:
    response = ask(server, task)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def seconds_until(true: Callable[[], bool], limit: float = 15) -> float:
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < limit
        time.sleep(0.02)
    return time.monotonic() - started
