"""The twin of hyperserve/aio/io.py: waiting and files, in the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")
_CHUNK = 1 << 18


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def off_loop(function: Callable[Given, Made], *args: Given.args, **kwargs: Given.kwargs) -> Made:
    return function(*args, **kwargs)


def chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def tell(listener: Callable[[Made], object], news: Made) -> None:
    listener(news)
