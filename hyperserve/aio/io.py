"""Sleeping and reading files without blocking the event loop; hyperserve/sync/io.py is its handwritten twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from inspect import isawaitable
from pathlib import Path
from typing import ParamSpec, TypeVar

Params = ParamSpec("Params")
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


async def notify(listener: Callable[[Result], object], value: Result) -> None:
    """Call a listener, which may be a coroutine function."""
    answer = listener(value)
    if isawaitable(answer):
        await answer
