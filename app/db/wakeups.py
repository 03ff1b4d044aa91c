"""Waking other processes through Redis. What comes is believed to be a wake-up, and nothing else."""

from __future__ import annotations

import asyncio

from app.db.invalidation_log import Watcher
from app.db.redis import FAILURES, Link, RedisAwayError, connect

CHANNEL = "hyperserve:news"
RETRY_SECONDS = 1.0
IDLE_SECONDS = 30.0


class WakeUps:
    """Without them, or while Redis is away, news are read once a second all the same."""

    def __init__(self, url: str, link: Link, watcher: Watcher) -> None:
        self._client = connect(url, None)
        self._link = link
        self._watcher = watcher
        self._publishing: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Something was committed that others must hear of. Returns at once."""
        self._watcher.wake()
        # One that has not been sent yet stands for this one as well.
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        await asyncio.sleep(0)
        self._publishing = None
        try:
            await self._link.send("PUBLISH", CHANNEL, b"")
        except RedisAwayError:
            return

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self._listen()
                except FAILURES:
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._client.aclose()

    async def _listen(self) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(CHANNEL)
            # For what was told while nobody listened.
            self._watcher.wake()
            while True:
                if await channel.get_message(timeout=IDLE_SECONDS) is not None:
                    self._watcher.wake()
