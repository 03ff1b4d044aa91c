"""Waiting and files without holding up the event loop. Its twin hyperserve/sync/io.py is written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from inspect import isawaitable
from pathlib import Path
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")
_CHUNK = 1 << 18


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def off_loop(function: Callable[Given, Made], *args: Given.args, **kwargs: Given.kwargs) -> Made:
    """What may take a while: reading and encoding many inputs."""
    return await asyncio.to_thread(function, *args, **kwargs)


async def chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk


async def tell(listener: Callable[[Made], object], news: Made) -> None:
    """Call a listener, which may be a coroutine function."""
    answer = listener(news)
    if isawaitable(answer):
        await answer
