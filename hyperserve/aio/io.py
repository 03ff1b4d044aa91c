"""Sleeping, reading files and parallel calls that leave the event loop free.

hyperserve/sync/io.py is its handwritten twin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from inspect import isawaitable
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Params = ParamSpec("Params")
Item = TypeVar("Item")
Result = TypeVar("Result")
_CHUNK = 1 << 18


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def in_thread(
    function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs
) -> Result:
    """Call a function that may take long, such as encoding many inputs, in a thread."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


async def in_parallel(
    function: Callable[[Item], Coroutine[Any, Any, Result]], items: Iterable[Item], at_once: int
) -> AsyncGenerator[tuple[Item, Result], None]:
    """Yield each item with its result as soon as there is one; after an error, calls that still run are cancelled."""
    waiting = iter(items)
    running: dict[asyncio.Task[Result], Item] = {}
    try:
        while True:
            for item in islice(waiting, at_once - len(running)):
                running[asyncio.create_task(function(item))] = item
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield running.pop(task), task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def notify(listener: Callable[Params, object], *values: Params.args, **options: Params.kwargs) -> None:
    """Call a listener, which may be a coroutine function."""
    answer = listener(*values, **options)
    if isawaitable(answer):
        await answer
