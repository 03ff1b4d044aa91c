"""One connection to Redis. If Redis goes away nothing waits for it, and it is used again when it is back."""

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

from app.core.errors import UnavailableError

TIMEOUT_SECONDS = 0.5
"""A slower answer costs more than regenerating the weights."""
PROBE_SECONDS = 1.0
BATCH_COMMANDS = 128
BATCH_BYTES = 8 << 20
HELD_BYTES = 64 << 20
"""Most bytes of waiting commands; further ones are refused."""

log = logging.getLogger("hyperserve")


class RedisAwayError(UnavailableError):
    """Redis does not answer, or too many commands wait for it: do without."""


@dataclass(frozen=True)
class _Command:
    words: tuple[bytes | str | int, ...]
    answer: asyncio.Future[Any]

    @property
    def size(self) -> int:
        return sum(len(word) for word in self.words if isinstance(word, bytes))


class RedisConnection:
    """Sends the commands of all requests of a process, in the order in which they come, many in one round trip.

    The first failure opens the circuit: from then on commands are refused at once, and one ping a second checks
    if Redis is back.
    """

    def __init__(self, url: str) -> None:
        self._client = connect(url, TIMEOUT_SECONDS)
        self._commands: deque[_Command] = deque()
        self._held = 0
        self._sender: asyncio.Task[None] | None = None
        self._prober: asyncio.Task[None] | None = None
        self._on_return: list[Callable[[], None]] = []

    @property
    def away(self) -> bool:
        return self._prober is not None

    def on_return(self, call: Callable[[], None]) -> None:
        """Register a function to be called whenever Redis is back after having been away."""
        self._on_return.append(call)

    async def send(self, *command: bytes | str | int) -> Any:
        """Return the answer of Redis. Raises `RedisAwayError`; Redis may have run the command all the same."""
        waiting = _Command(command, asyncio.get_running_loop().create_future())
        if self.away or self._held + waiting.size > HELD_BYTES:
            raise RedisAwayError
        self._commands.append(waiting)
        self._held += waiting.size
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await waiting.answer

    async def close(self) -> None:
        tasks = [task for task in (self._sender, self._prober) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refuse(RedisAwayError("closed"))
        await self._client.aclose()

    async def _send(self) -> None:
        try:
            while self._commands:
                batch = self._batch()
                try:
                    self._answer(batch, await self._round_trip(batch))
                except (RedisError, OSError) as error:
                    self._lose(error, batch)
                except BaseException:
                    self._commands.extendleft(batch)
                    self._refuse(RedisAwayError("given up"))
                    raise
        finally:
            self._sender = None

    def _batch(self) -> list[_Command]:
        batch, size = [self._commands.popleft()], 0
        while self._commands and len(batch) < BATCH_COMMANDS and size < BATCH_BYTES:
            batch.append(self._commands.popleft())
            size += batch[-1].size
        self._held -= sum(command.size for command in batch)
        return batch

    async def _round_trip(self, batch: list[_Command]) -> list[Any]:
        async with asyncio.timeout(2 * TIMEOUT_SECONDS), self._client.pipeline(transaction=False) as pipe:
            for command in batch:
                pipe.execute_command(*command.words)
            return await pipe.execute(raise_on_error=False)

    def _answer(self, batch: list[_Command], answers: list[Any]) -> None:
        for command, answer in zip(batch, answers, strict=True):
            if command.answer.done():
                continue
            if isinstance(answer, Exception):
                command.answer.set_exception(RedisAwayError(f"{answer}"))
            else:
                command.answer.set_result(answer)

    def _lose(self, error: Exception, batch: list[_Command]) -> None:
        if self._prober is None:
            log.warning("Redis does not answer, going on without: %s", type(error).__name__)
            self._prober = asyncio.create_task(self._probe())
        self._commands.extendleft(batch)
        self._refuse(RedisAwayError(type(error).__name__))

    def _refuse(self, error: RedisAwayError) -> None:
        while self._commands:
            command = self._commands.popleft()
            if not command.answer.done():
                command.answer.set_exception(error)
        self._held = 0

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                await self._client.connection_pool.disconnect()
                async with asyncio.timeout(2 * TIMEOUT_SECONDS):
                    await self._client.ping()
            except (RedisError, OSError):
                continue
            break
        log.warning("Redis answers again")
        self._prober = None
        for call in self._on_return:
            call()


def connect(url: str, timeout: float | None) -> redis.Redis:
    """Return a client without the library's own retries: callers do without Redis, or try again themselves."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0 if timeout else 10,
    )
