"""Waking other processes through Redis. A message is taken as a wake-up and nothing else: its content is not read."""

from __future__ import annotations

import asyncio

from redis.exceptions import RedisError

from app.db.invalidation_log import ChangeWatcher
from app.db.redis import RedisAwayError, RedisConnection, connect

CHANNEL = "hyperserve:changes"
RETRY_SECONDS = 1.0
IDLE_SECONDS = 30.0


class WakeUps:
    """Sends and receives wake-ups. Without them, or while Redis is away, changes are still read once a second."""

    def __init__(self, url: str, redis: RedisConnection, watcher: ChangeWatcher) -> None:
        self._client = connect(url, None)
        self._redis = redis
        self._watcher = watcher
        self._publishing: asyncio.Task[None] | None = None

    def notify(self) -> None:
        """Wake all processes: a change was committed. Returns at once."""
        self._watcher.wake()
        # One that has not been sent yet counts for this one as well.
        if self._publishing is None:
            self._publishing = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        await asyncio.sleep(0)
        self._publishing = None
        try:
            await self._redis.send("PUBLISH", CHANNEL, b"")
        except RedisAwayError:
            return

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                try:
                    await self._listen()
                except (RedisError, OSError):
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._client.aclose()

    async def _listen(self) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(CHANNEL)
            # For changes that were committed while nobody listened.
            self._watcher.wake()
            while True:
                if await channel.get_message(timeout=IDLE_SECONDS) is not None:
                    self._watcher.wake()
