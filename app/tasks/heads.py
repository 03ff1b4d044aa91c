"""What a warm predict must know of a task, kept in the process so that it needs no database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
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
    revision: int = 1
    """Counts the changes of the task."""

    @property
    def weight(self) -> int:
        return OWN_WEIGHT + len(self.classes)


class Reading:
    """A head on its way from the database into memory."""

    def __init__(self) -> None:
        self.least = 0.0
        """The revision that was heard of since it began; infinite of a task that is gone. Less is stale."""

    @property
    def gone(self) -> bool:
        """Whether nothing may be kept of the task."""
        return self.least == float("inf")


class Heads:
    """Least recently used heads by task id, until a change is heard of."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._left = capacity
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._readings: dict[str, set[Reading]] = {}

    def get(self, tenant: str, task: str) -> Head | None:
        head = self._heads.get(task)
        if head is None or head.tenant != tenant:
            return None
        self._heads.move_to_end(task)
        return head

    @contextmanager
    def reading(self, task: str) -> Iterator[Reading]:
        """Begins before the database is asked (or changed) and ends when the answer has been `put`."""
        reading = Reading()
        self._readings.setdefault(task, set()).add(reading)
        try:
            yield reading
        finally:
            self._readings[task].discard(reading)
            if not self._readings[task]:
                del self._readings[task]

    def put(self, head: Head, reading: Reading) -> None:
        """Keeps the head, unless a change was heard of since the reading began, or a newer one is there."""
        known = self._heads.get(head.task)
        if head.revision < max(reading.least, 0 if known is None else known.revision):
            return
        self._remove(head.task)
        self._heads[head.task] = head
        self._left -= head.weight
        while self._left < 0:
            self._remove(next(iter(self._heads)))

    def drop(self, task: str, revision: float = float("inf")) -> None:
        """The task is now at `revision`, or gone; to be called after the commit. A head that is so stays."""
        for reading in self._readings.get(task, ()):
            reading.least = max(reading.least, revision)
        head = self._heads.get(task)
        if head is not None and head.revision < revision:
            self._remove(task)

    def clear(self) -> None:
        """Anything may have changed."""
        for task in {*self._readings, *self._heads}:
            self.drop(task)

    def _remove(self, task: str) -> None:
        if head := self._heads.pop(task, None):
            self._left += head.weight
