"""Sleeping, reading files and parallel calls without an event loop; the handwritten twin of hyperserve/aio/io.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

Params = ParamSpec("Params")
Item = TypeVar("Item")
Result = TypeVar("Result")
_CHUNK = 1 << 18


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def in_thread(function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs) -> Result:
    return function(*args, **kwargs)


def chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], at_once: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item with its result as soon as there is one; after an error, calls that still run are waited for."""
    waiting = iter(items)
    running: dict[Future[Result], Item] = {}
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="hyperserve")
    try:
        while True:
            for item in islice(waiting, at_once - len(running)):
                running[pool.submit(copy_context().run, function, item)] = item
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for call in done:
                yield running.pop(call), call.result()
    finally:
        pool.shutdown(cancel_futures=True)


def notify(listener: Callable[Params, object], *values: Params.args, **options: Params.kwargs) -> None:
    listener(*values, **options)
