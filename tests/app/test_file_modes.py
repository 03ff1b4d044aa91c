"""Files and folders of a service are its owner's alone, whatever the umask of the process that starts it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.core.data_folder import open_data_folder
from tests.app.problems import OK, create
from tests.app.server import Server


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(folder: Path) -> list[str]:
    """Return what others than the owner can open, with its mode."""
    return [
        f"{stat.filemode(path.stat().st_mode)} {path}"
        for path in (folder, *folder.rglob("*"))
        if path.stat().st_mode & 0o077
    ]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("mask", [0o022, 0o000])
def test_nothing_is_open_to_others(own_server: Server, tmp_path: Path, mask: int) -> None:
    data_dir, file = tmp_path / "own" / "data", tmp_path / "x.tar"
    data_dir.parent.mkdir()
    own_server.data_dir = data_dir
    environment = {**os.environ, "HYPERSERVE_DATA_DIR": str(data_dir)}
    with umask(mask):
        own_server.start()
        create(own_server.client, support={"a": OK, "b": [[9, 9]]})
        upload = own_server.client.post(
            "/v1/datasets", content=b"label,x\na,1\na,2\nb,3\nb,4\n", headers={"Content-Type": "text/csv"}
        )
        assert upload.status_code == 201, upload.text
        assert (data_dir / "hyperserve.db-wal").exists()
        assert own_server.blobs()
        command = [sys.executable, "-m", "hyperserve", "backup", str(file)]
        subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
    assert open_to_others(data_dir) == []
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    with umask(0o000):
        (tmp_path / "blobs" / "raw").mkdir(parents=True)
        (tmp_path / "jobs").mkdir()
        for name in ("hyperserve.db", "hyperserve.db-wal", "hyperserve.db.blobs"):
            (tmp_path / name).touch()
    open_data_folder(tmp_path)
    names = ["blobs", "hyperserve.db", "hyperserve.db-wal", "hyperserve.db.blobs", "jobs"]
    assert {name: stat.S_IMODE((tmp_path / name).stat().st_mode) & 0o077 for name in names} == dict.fromkeys(
        names, 0
    )
