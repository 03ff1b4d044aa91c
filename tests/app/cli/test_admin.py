"""`hyperserve gc`, `backup` and `restore` as an operator uses them: beside a running server, and elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.app.cli.commands import forked
from tests.app.forked import Forked
from tests.app.problems import OK
from tests.app.server import Server


def run(data_dir: Path, *arguments: str) -> tuple[int, str]:
    """Return the status and all output of a command run in a forked process."""
    out = data_dir.with_name("out")
    out.unlink(missing_ok=True)
    environment = {**os.environ, "HYPERSERVE_DATA_DIR": str(data_dir), "COLUMNS": "200"}
    return Forked([*arguments], environment, out).wait(50), out.read_text()


def test_a_service_moves(own_server: Server, zoo: Path, tmp_path: Path) -> None:
    """Backed up while it runs, restored elsewhere: the task answers as before."""
    own_server.start()
    made = own_server.client.post("/v1/tasks", json={"support": {"a": OK, "b": [[9, 9]]}}).json()
    asked = {"queries": [[0.5, 0.5], [9.0, 8.0]]}
    before = own_server.client.post(f"/v1/tasks/{made['id']}/predict", json=asked).json()
    orphan = own_server.data_dir / "blobs" / "raw" / "default" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x")
    status, text = run(own_server.data_dir, "gc", "--dry-run", "--json")
    assert (status, json.loads(text)["inputs"], orphan.exists()) == (0, 1, True)
    status, text = run(own_server.data_dir, "gc")
    assert (status, orphan.exists()) == (0, False)
    assert "idempotency keys" in text
    file = tmp_path / "x.tar"
    status, text = run(own_server.data_dir, "backup", str(file), "--json")
    assert (status, json.loads(text)["blobs"]) == (0, 3), text
    own_server.stop()

    moved = Server(tmp_path / "elsewhere", zoo)
    assert run(moved.data_dir, "restore", str(file))[0] == 0
    assert run(moved.data_dir, "restore", str(file)) == (
        1,
        "hyperserve: the database is not empty: the table tasks has rows\n",
    )
    moved.start()
    try:
        after = moved.client.post(f"/v1/tasks/{made['id']}/predict", json=asked).json()
        assert after["predictions"] == before["predictions"]
        assert len(moved.client.get("/v1/tasks").json()["items"]) == 1
    finally:
        moved.stop()


@pytest.mark.parametrize("command", ["gc", "backup x.tar"])
def test_where_there_is_no_service(tmp_path: Path, command: str) -> None:
    status, text = forked(tmp_path, command, HYPERSERVE_DATA_DIR=str(tmp_path / "none"), COLUMNS="200")
    assert status == 1
    assert text.startswith("hyperserve: there is no database at ")
    assert not (tmp_path / "none").exists()


def test_what_is_no_backup(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"x" * 2000)
    status, text = forked(
        tmp_path, "restore x.tar", HYPERSERVE_DATA_DIR=str(tmp_path / "data"), COLUMNS="200"
    )
    assert status == 1
    assert "cannot be read" in text
