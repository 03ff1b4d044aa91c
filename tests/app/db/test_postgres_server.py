"""The service on PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.app.problems import OK, create
from tests.app.server import Server
from tests.servers.postgres import Databases


@pytest.fixture
def postgres(databases: Databases) -> str:
    return databases.empty()


def test_tasks_on_postgresql(own_server: Server, postgres: str) -> None:
    """Refused until upgraded by hand; then the same as on SQLite."""
    environment = {"HYPERSERVE_DATABASE_URL": postgres.replace("postgresql+psycopg:", "postgresql:")}
    own_server.environment = environment
    own_server.start(wait=False)
    assert own_server.process.wait(timeout=30) != 0
    assert "run `hyperserve db upgrade`" in own_server.log.read_text()
    command = [sys.executable, "-m", "hyperserve", "db", "upgrade"]
    subprocess.run(command, env={**os.environ, **environment}, check=True, timeout=30)
    own_server.start()
    client = own_server.client
    tasks = [create(client, support={"größe": OK, "b": OK}, name="é").json()["id"] for _ in range(3)]
    answers = client.post(f"/v1/tasks/{tasks[0]}/predict", json={"queries": OK}).json()["predictions"]
    own_server.stop()
    own_server.start()
    client = own_server.client
    again = client.post(f"/v1/tasks/{tasks[0]}/predict", json={"queries": OK}).json()["predictions"]
    assert [answer["label"] for answer in again] == [answer["label"] for answer in answers]
    page = client.get("/v1/tasks?limit=2").json()
    rest = client.get("/v1/tasks", params={"cursor": page["next_cursor"]}).json()
    assert {item["id"] for item in (*page["items"], *rest["items"])} == set(tasks)
    for task in tasks:
        assert client.delete(f"/v1/tasks/{task}").status_code == 204
        assert client.get(f"/v1/tasks/{task}").status_code == 404
    assert own_server.blobs() == []
