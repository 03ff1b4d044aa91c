"""Sleeping and reading files in the caller's thread; the handwritten twin of hyperserve/aio/io.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

Params = ParamSpec("Params")
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


def notify(listener: Callable[[Result], object], value: Result) -> None:
    listener(value)
