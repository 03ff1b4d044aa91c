"""Networks and gates are made of the parts that they need, once, and parts are kept by their digests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from app.db.blobs import Blobs
from app.db.engine import Database
from app.serving.cache_stats import Tiers
from app.serving.served_models import ServedStream
from app.streams.bundled import BundledStreams
from app.streams.learners import Built
from app.streams.versions import StreamHead
from app.streams.weights import Parts, StreamWeights
from models.continual import bundle
from models.continual.config import build
from models.continual.storage import StreamStorageError, to_bytes
from models.weights import tensors
from tests.app.streams.bundles import bundled

T = TypeVar("T")


def made(folder: Path, work: Callable[[StreamWeights, StreamHead, Built], Awaitable[T]]) -> T:
    """Of the bundled stream `blobs`, without a database or a store that anything is in."""
    learner = build(bundle.load(folder / "blobs").config)
    built = Built(learner, ServedStream.of(learner, torch.device("cpu")))
    head = BundledStreams.load(folder).head("blobs")
    assert head is not None

    async def run() -> T:
        database = Database(f"sqlite+aiosqlite:///{folder / 'none.db'}")
        with ThreadPoolExecutor(1) as pool:
            weights = StreamWeights(database, Blobs.at("memory:///", folder), pool, tiers=Tiers())
            return await work(weights, head, built)

    return asyncio.run(run())


def test_a_network_needs_what_its_own_task_owns(tmp_path: Path) -> None:
    version = bundled(tmp_path / "blobs").version()
    (tmp_path / "blobs" / "tasks" / "02.safetensors").unlink()

    async def work(weights: StreamWeights, head: StreamHead, built: Built) -> None:
        first, gate = await asyncio.gather(weights.network(head, built, "first"), weights.gate(head, built))
        for found, expected in (
            (first, built.learner.weights(version, "first")),
            (gate, built.learner.gate(version)),
        ):
            assert all(value.equal(dict(tensors(found))[name]) for name, value in tensors(expected))
        with pytest.raises(StreamStorageError):
            await weights.network(head, built, "third")

    made(tmp_path, work)


def test_a_damaged_part_answers_nothing(tmp_path: Path) -> None:
    bundled(tmp_path / "blobs")
    file = tmp_path / "blobs" / "shared.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)

    async def work(weights: StreamWeights, head: StreamHead, built: Built) -> None:
        with pytest.raises(StreamStorageError, match="damaged"):
            await weights.network(head, built, "first")

    made(tmp_path, work)


def part(value: float) -> bytes:
    return to_bytes({"x": torch.full((25,), value)})


def test_parts_are_read_once_and_forgotten_when_told() -> None:
    reads: list[str] = []

    async def work() -> None:
        parts = Parts(capacity=250)

        async def get(name: str) -> float:
            async def read() -> bytes:
                reads.append(name)
                await asyncio.sleep(0)
                return part(float(name))

            return float((await parts.get(name, read))["x"][0])

        assert await asyncio.gather(get("1"), get("1"), get("2")) == [1, 1, 2]
        assert await get("1") == 1
        assert reads == ["1", "2"]
        await get("3")
        await get("2")
        assert reads == ["1", "2", "3", "2"], "two of a hundred bytes fit, and 2 was used longest ago"
        under_way = asyncio.create_task(get("4"))
        await asyncio.sleep(0)
        parts.clear()
        assert await under_way == 4
        await get("4")
        assert reads[-2:] == ["4", "4"], "what was being read is not kept"

    asyncio.run(work())


def test_a_bundle_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    saved = bundled(tmp_path / "blobs")
    again = bundle.load(tmp_path / "blobs")
    assert again.description == saved.description
    assert again.description.digest == saved.description.digest
    (tmp_path / "blobs" / "stream.json").write_text("{}")
    with pytest.raises(StreamStorageError, match="field"):
        bundle.load(tmp_path / "blobs")
    (tmp_path / "blobs").rename(tmp_path / "No_slug")
    with pytest.raises(StreamStorageError, match="must match"):
        BundledStreams.load(tmp_path)
