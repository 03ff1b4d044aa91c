"""Contenders in separate processes, because the allocator is configured for a whole process."""

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
    """A contender to be made in a separate process, and the configuration of that process."""

    make: Callable[[], Contender]
    keeps_memory: bool = False
    """Keep freed memory, as `hyperserve train` does; otherwise the C library's default."""


class RunningContender:
    """A handle of a contender that runs once in its process when called."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def __call__(self) -> Seconds:
        """Run the contender once. Raise `EOFError` or `ConnectionError` if its process has ended."""
        self._pipe.send(None)
        taken: Seconds = self._pipe.recv()
        return taken


@contextmanager
def separate_processes(entries: dict[str, ContenderProcess]) -> Iterator[dict[str, RunningContender]]:
    """Start a process for each contender, and end them with the block."""
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
