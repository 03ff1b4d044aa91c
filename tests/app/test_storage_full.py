"""A service whose disk is full, or that has no file descriptor left: what it refuses, and what goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import problem_translations
from app.db.blobs import BlobStoreBusyError, BlobStoreFullError
from app.db.errors import DatabaseFullError
from tests.app.problems import OK, create
from tests.app.server import Server

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 24 MiB; skips where that is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, check=False, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no program to mount file systems")
    if done.returncode != 0:
        pytest.skip("file systems cannot be mounted")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Fill the disk to its last byte."""
    with file.open("wb", buffering=0) as sink:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while sink.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


@pytest.mark.timeout(120)
def test_a_full_disk(own_server: Server, small_disk: Path) -> None:
    own_server.data_dir = small_disk / "data"
    own_server.environment = {"TMPDIR": "/tmp"}
    own_server.start()
    client = own_server.client
    tasks = [create(client, support={"a": [[number, 0]], "b": [[9, 9]]}).json()["id"] for number in range(5)]
    fill(small_disk / "filler")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (507, "storage_full")
    assert client.get("/livez").status_code == 200
    refused = client.post("/v1/tasks", json={"support": {"c": [[7, 7]], "d": [[8, 9]]}})
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    upload = client.post("/v1/datasets", content=b"label,x\na,1\nb,2\n", headers={"Content-Type": "text/csv"})
    assert (upload.status_code, upload.json()["code"]) == (507, "storage_full")
    assert client.post(f"/v1/tasks/{tasks[0]}/predict", json={"queries": OK}).status_code == 200
    for task in tasks[:3]:
        assert client.delete(f"/v1/tasks/{task}").status_code == 204
        assert client.get(f"/v1/tasks/{task}").status_code == 404
    (small_disk / "filler").unlink()
    assert client.get("/readyz").status_code == 200
    assert create(client, support={"c": [[7, 7]], "d": [[8, 9]]}).status_code == 201
    assert len(client.get("/v1/tasks").json()["items"]) == 3


ERRORS: list[tuple[Exception, int, str]] = [
    (OSError(28, "No space left on device"), 507, "storage_full"),
    (OSError(122, "Disk quota exceeded"), 507, "storage_full"),
    (BlobStoreFullError("x"), 507, "storage_full"),
    (DatabaseFullError("x"), 507, "storage_full"),
    (OSError(24, "Too many open files"), 503, "busy"),
    (OSError(23, "Too many open files in system"), 503, "busy"),
    (BlobStoreBusyError("x"), 503, "busy"),
    (OSError(5, "Input/output error"), 500, "internal_error"),
    (PermissionError(13, "Permission denied"), 500, "internal_error"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
def test_errors_of_the_system(error: Exception, status: int, code: str) -> None:
    app = FastAPI()
    problem_translations.install(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
