"""Blobs are on the disk when `put` returns, and files that killed processes leave behind are deleted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.db import disk
from app.db.blobs import Blobs, digest

INPUTS = {digest(bytes([index])): bytes([index]) for index in range(100)}


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return paths in the order in which they are flushed."""
    paths: list[Path] = []
    flush, flush_all = disk._flush, disk._flush_file_system

    def noted(path: Path) -> None:
        flush(path)
        paths.append(path)

    def noted_all(folder: Path) -> None:
        flush_all(folder)
        paths.append(folder)

    monkeypatch.setattr(disk, "_flush", noted)
    monkeypatch.setattr(disk, "_flush_file_system", noted_all)
    return paths


def test_files_and_their_folders_are_flushed(tmp_path: Path, flushed: list[Path]) -> None:
    async def test() -> None:
        blobs, (name, data) = Blobs.at(None, tmp_path), next(iter(INPUTS.items()))
        tenant = tmp_path / "blobs" / "raw" / "t"
        await blobs.put_missing("t", {name: data})
        folders = {tenant / name[:2], tenant, tenant.parent, tmp_path / "blobs"}
        assert flushed[0] == tenant / name[:2] / name
        assert set(flushed[1:]) == folders
        # It may be there by another request that has not come to flushing it.
        await blobs.put_missing("t", {name: data})
        assert len(flushed) == 10
        await blobs.put_missing("t", {name: data}, again=True)
        await blobs.put_missing("t", {})
        assert len(flushed) == 10
        await blobs.delete("t", [name])
        await blobs.put_missing("t", {name: data}, again=True)
        assert len(flushed) == 15

    asyncio.run(test())


def test_a_folder_by_url_is_a_disk_too(tmp_path: Path, flushed: list[Path]) -> None:
    async def test() -> None:
        (tmp_path / "a folder").mkdir()
        blobs, (name, data) = Blobs.at((tmp_path / "a folder").as_uri(), tmp_path), next(iter(INPUTS.items()))
        await blobs.put_missing("t", {name: data})
        assert flushed[0] == tmp_path / "a folder" / "raw" / "t" / name[:2] / name
        assert flushed[0].read_bytes() == data

    asyncio.run(test())


@pytest.mark.skipif(sys.platform != "linux", reason="flushes a file system at once")
def test_many_files_and_many_requests_are_flushed_together(tmp_path: Path, flushed: list[Path]) -> None:
    async def test() -> None:
        blobs = Blobs.at(None, tmp_path)
        await asyncio.gather(*(blobs.put_missing(f"t{index}", INPUTS) for index in range(10)))
        assert set(flushed) == {tmp_path / "blobs"}
        assert 1 <= len(flushed) <= 10

    asyncio.run(test())


def test_a_file_that_lost_its_content_is_written_again(tmp_path: Path) -> None:
    async def test() -> None:
        blobs = Blobs.at(None, tmp_path)
        await blobs.put_missing("t", INPUTS)
        for name in INPUTS:
            (tmp_path / "blobs" / "raw" / "t" / name[:2] / name).write_bytes(b"")
        await blobs.put_missing("t", INPUTS)
        assert await blobs.get("t", list(INPUTS)) == list(INPUTS.values())

    asyncio.run(test())


WRITER = """
import asyncio, sys
from pathlib import Path
from app.db.blobs import Blobs, digest

async def main():
    blobs = Blobs.at(None, Path(sys.argv[1]))
    while True:
        data = [bytes([n]) * (20 << 20) for n in range(8)]
        await blobs.put_missing("t", {digest(one): one for one in data})
        await blobs.delete("t", [digest(one) for one in data])

asyncio.run(main())
"""


def test_what_a_killed_write_leaves_is_swept(tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path]) as writer:
        started = time.monotonic()
        while not list(folder.rglob("*#1")):
            assert time.monotonic() - started < 30, "the store writes under other names than it did"
        writer.send_signal(signal.SIGKILL)
    # What it was about to rename may have been renamed meanwhile.
    staged = [*folder.rglob("*#1"), folder / "x#1"]
    staged[-1].touch()

    async def test() -> None:
        blobs = Blobs.at(None, tmp_path)
        assert await blobs.sweep() == 0
        hour_ago = time.time() - 2 * disk.STAGED_SECONDS
        for path in staged:
            os.utime(path, (hour_ago, hour_ago))
        assert await blobs.sweep() == len(staged)
        assert list(folder.rglob("*#*")) == []
        assert await Blobs.at("memory:///", tmp_path).sweep() == 0

    asyncio.run(test())
