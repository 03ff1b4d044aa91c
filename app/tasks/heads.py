"""What a warm predict must know of a task, kept in the process so that it needs no database."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

CAPACITY = 100_000


@dataclass(frozen=True)
class Head:
    """The current version of a task."""

    tenant: str
    task: str
    version: str
    number: int
    learner: str
    learner_digest: str
    seed: int
    classes: tuple[str, ...]
    shape: tuple[int, ...]


class Heads:
    """Least recently used heads by task id. A change by another process goes unseen for `seconds` at most."""

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = float("inf") if seconds is None else seconds
        self._heads: OrderedDict[str, tuple[float, Head]] = OrderedDict()

    def get(self, tenant: str, task: str) -> Head | None:
        entry = self._heads.get(task)
        if entry is None or entry[1].tenant != tenant:
            return None
        if time.monotonic() - entry[0] > self._seconds:
            del self._heads[task]
            return None
        self._heads.move_to_end(task)
        return entry[1]

    def put(self, head: Head) -> None:
        self._heads[head.task] = (time.monotonic(), head)
        self._heads.move_to_end(head.task)
        if len(self._heads) > CAPACITY:
            self._heads.popitem(last=False)

    def drop(self, task: str) -> None:
        self._heads.pop(task, None)
