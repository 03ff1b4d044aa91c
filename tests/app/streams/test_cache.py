"""The cache of the parts of versions."""

from __future__ import annotations

import asyncio

import torch

from app.streams.cache import TensorCache
from models.continual.storage import to_bytes


def part(value: float) -> bytes:
    return to_bytes({"x": torch.full((25,), value)})


def test_parts_are_read_once_until_they_are_cleared() -> None:
    reads: list[str] = []

    async def work() -> None:
        cache = TensorCache(capacity=250)

        async def get(name: str) -> float:
            async def read() -> bytes:
                reads.append(name)
                await asyncio.sleep(0)
                return part(float(name))

            return float((await cache.get(name, read))["x"][0])

        assert await asyncio.gather(get("1"), get("1"), get("2")) == [1, 1, 2]
        assert await get("1") == 1
        assert reads == ["1", "2"]
        await get("3")
        await get("2")
        assert reads == ["1", "2", "3", "2"], "two of a hundred bytes fit, and 2 was used longest ago"
        under_way = asyncio.create_task(get("4"))
        await asyncio.sleep(0)
        cache.clear()
        assert await under_way == 4
        await get("4")
        assert reads[-2:] == ["4", "4"], "what was being read is not cached"

    asyncio.run(work())
