"""Content-addressed blobs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.db.blobs import BlobMissingError, Blobs, BlobStoreError, digest


def test_put_get_delete(tmp_path: Path) -> None:
    async def test() -> None:
        blobs = Blobs.at(None, tmp_path)
        data = {digest(bytes([index])): bytes([index]) for index in range(200)}
        await blobs.put_missing("a", data)
        await blobs.put_missing("a", data)
        assert await blobs.get("a", list(data)) == list(data.values())
        with pytest.raises(BlobMissingError):
            await blobs.get("b", list(data)[:1])
        assert [tenant async for tenant, _ in blobs.listed()] == ["a"]
        await blobs.delete("a", [*data, digest(b"never there")])
        assert [name async for _, names in blobs.listed() for name in names] == []

    asyncio.run(test())


def test_a_failed_write_leaves_none_running(tmp_path: Path) -> None:
    """Whoever then takes back what was written must not be overtaken by the rest."""

    async def test() -> None:
        blobs = Blobs.at(None, tmp_path)
        data = {digest(bytes([index])): bytes([index]) for index in range(200)}
        first = next(iter(data))
        # A file where the folder of the first blob belongs: it cannot be written.
        folder = tmp_path / "blobs" / "raw" / "a" / first[:2]
        folder.parent.mkdir(parents=True)
        folder.write_bytes(b"")
        with pytest.raises(BlobStoreError):
            await blobs.put_missing("a", data)
        written = sorted(path for path in folder.parent.rglob("*") if path.is_file())
        await asyncio.sleep(0.1)
        assert sorted(path for path in folder.parent.rglob("*") if path.is_file()) == written
        assert len(written) < len(data)

    asyncio.run(test())


def test_features_come_and_go(tmp_path: Path) -> None:
    async def test() -> None:
        blobs = Blobs.at(None, tmp_path)
        await blobs.put_features("learner", "ver_1", b"x")
        assert await blobs.get_features("learner", "ver_1") == b"x"
        assert await blobs.get_features("learner", "ver_2") is None
        assert [pairs async for pairs in blobs.listed_features()] == [[("learner", "ver_1")]]
        await blobs.delete_features([("learner", "ver_1"), ("learner", "ver_2")])
        assert await blobs.get_features("learner", "ver_1") is None

    asyncio.run(test())


def test_store_by_url(tmp_path: Path) -> None:
    async def test() -> None:
        blobs = Blobs.at("memory:///", tmp_path)
        await blobs.put_missing("a", {digest(b"x"): b"x"})
        assert await blobs.get("a", [digest(b"x")]) == [b"x"]

    asyncio.run(test())
    assert list(tmp_path.iterdir()) == []
