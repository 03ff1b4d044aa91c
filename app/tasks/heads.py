"""What a warm predict must know of a task, kept in the process so that it needs no database."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

CAPACITY = 1_000_000
"""Labels of all heads together, which are what a head weighs; a head counts as a few beside its own."""
OWN_WEIGHT = 10


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

    @property
    def weight(self) -> int:
        return OWN_WEIGHT + len(self.classes)


class Heads:
    """Least recently used heads by task id. A change by another process goes unseen for `seconds` at most."""

    def __init__(self, seconds: float | None = None, capacity: int = CAPACITY) -> None:
        self._seconds = float("inf") if seconds is None else seconds
        self._left = capacity
        self._heads: OrderedDict[str, tuple[float, Head]] = OrderedDict()

    def get(self, tenant: str, task: str) -> Head | None:
        entry = self._heads.get(task)
        if entry is None or entry[1].tenant != tenant:
            return None
        if time.monotonic() - entry[0] > self._seconds:
            self.drop(task)
            return None
        self._heads.move_to_end(task)
        return entry[1]

    def put(self, head: Head) -> None:
        self.drop(head.task)
        self._heads[head.task] = (time.monotonic(), head)
        self._left -= head.weight
        while self._left < 0:
            self.drop(next(iter(self._heads)))

    def drop(self, task: str) -> None:
        if entry := self._heads.pop(task, None):
            self._left += entry[1].weight
