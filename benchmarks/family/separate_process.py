"""A contender in a process of its own: the setting of an allocator is the whole process's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch

from app.core.allocator import keep_freed_memory
from benchmarks.family.interleaved_timing import Contender, Seconds, timed


@dataclass(frozen=True)
class ContenderProcess:
    """How a contender is made, in a process that may be another, and how that process keeps its memory."""

    make: Callable[[], Contender]
    keeps_memory: bool = False
    """As `hyperserve train` does; otherwise as the C library has it."""


class RunningContender:
    """Called, it runs once in its process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __call__(self) -> Seconds:
        """Raises `EOFError` or `ConnectionError` where the process has ended."""
        self._pipe.send(None)
        taken: Seconds = self._pipe.recv()
        return taken


@contextmanager
def separate_processes(entries: dict[str, ContenderProcess]) -> Iterator[dict[str, RunningContender]]:
    """Each entry in a process, until the block ends."""
    context = get_context("spawn")
    running = {}
    for name, entry in entries.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, entry), daemon=True)
        process.start()
        theirs.close()
        running[name] = (process, ours)
    try:
        yield {name: RunningContender(pipe) for name, (_, pipe) in running.items()}
    finally:
        for process, pipe in running.values():
            pipe.close()
            process.join()


def _serve(pipe: Connection, entry: ContenderProcess) -> None:
    if entry.keeps_memory:
        keep_freed_memory()
    torch.set_num_threads(1)
    contender = entry.make()
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        pipe.send(timed(contender))
