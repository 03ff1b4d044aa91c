"""One connection to Redis, which may go away: then nothing waits for it, and it is used again when it is back."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

TIMEOUT_SECONDS = 0.5
"""Beyond it regenerating is the better choice."""
PROBE_SECONDS = 1.0
BATCH_COMMANDS = 128
BATCH_BYTES = 8 << 20
HELD_BYTES = 64 << 20
"""Commands that wait; beyond it they are refused."""
FAILURES = (RedisError, OSError, TimeoutError)

log = logging.getLogger("hyperserve")


class RedisAwayError(Exception):
    """Redis does not answer, or too much waits for it: do without."""


@dataclass(frozen=True)
class _Order:
    command: tuple[bytes | str | int, ...]
    answer: asyncio.Future[Any]

    @property
    def size(self) -> int:
        return sum(len(part) for part in self.command if isinstance(part, bytes))


class Link:
    """Commands of all requests of a process, sent in the order they come, many in one round trip.

    The first failure opens the circuit: from then on commands are refused at once, and one ping a second looks
    whether Redis is back.
    """

    def __init__(self, url: str) -> None:
        self._client = connect(url, TIMEOUT_SECONDS)
        self._orders: deque[_Order] = deque()
        self._held = 0
        self._sender: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        self._on_return: list[Callable[[], None]] = []

    @property
    def away(self) -> bool:
        return self._prober is not None

    def on_return(self, call: Callable[[], None]) -> None:
        """To be called whenever Redis is back after having been away."""
        self._on_return.append(call)

    async def send(self, *command: bytes | str | int) -> Any:
        """What Redis answers. Raises `RedisAwayError`; whether Redis took the command is then unknown."""
        order = _Order(command, asyncio.get_running_loop().create_future())
        if self.away or self._held + order.size > HELD_BYTES:
            raise RedisAwayError
        self._orders.append(order)
        self._held += order.size
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await order.answer

    async def close(self) -> None:
        tasks = [task for task in (self._sender, self._prober) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse(RedisAwayError("closed"))
        await self._client.aclose()

    async def _send(self) -> None:
        try:
            while self._orders:
                batch = self._batch()
                try:
                    self._answer(batch, await self._round(batch))
                except FAILURES as error:
                    self._lose(error, batch)
                except BaseException:
                    self._orders.extendleft(batch)
                    self._refuse(RedisAwayError("given up"))
                    raise
        finally:
            self._sender = None

    def _batch(self) -> list[_Order]:
        batch, size = [self._orders.popleft()], 0
        while self._orders and len(batch) < BATCH_COMMANDS and size < BATCH_BYTES:
            batch.append(self._orders.popleft())
            size += batch[-1].size
        self._held -= sum(order.size for order in batch)
        return batch

    async def _round(self, batch: list[_Order]) -> list[Any]:
        async with asyncio.timeout(2 * TIMEOUT_SECONDS), self._client.pipeline(transaction=False) as pipe:
            for order in batch:
                pipe.execute_command(*order.command)
            return await pipe.execute(raise_on_error=False)

    def _answer(self, batch: list[_Order], answers: list[Any]) -> None:
        for order, answer in zip(batch, answers, strict=True):
            if order.answer.done():
                continue
            if isinstance(answer, Exception):
                order.answer.set_exception(RedisAwayError(f"{answer}"))
            else:
                order.answer.set_result(answer)

    def _lose(self, error: Exception, batch: list[_Order]) -> None:
        if self._prober is None:
            log.warning("Redis does not answer, going on without: %s", type(error).__name__)
            self._prober = asyncio.create_task(self._probe())
        self._orders.extendleft(batch)
        self._refuse(RedisAwayError(type(error).__name__))

    def _refuse(self, error: RedisAwayError) -> None:
        while self._orders:
            order = self._orders.popleft()
            if not order.answer.done():
                order.answer.set_exception(error)
        self._held = 0

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                await self._client.connection_pool.disconnect()
                async with asyncio.timeout(2 * TIMEOUT_SECONDS):
                    await self._client.ping()
            except FAILURES:
                continue
            break
        log.warning("Redis answers again")
        self._prober = None
        for call in self._on_return:
            call()


def connect(url: str, timeout: float | None) -> redis.Redis:
    """Without the library's own retries: whoever asks can do without, or tries again by itself."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0 if timeout else 10,
    )
