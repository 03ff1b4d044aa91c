"""Versions of tasks and streams kept in the process, so that a warm predict needs no database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

CAPACITY = 1_000_000
"""Labels of all heads together, which are what a head weighs; a head counts as a few beside its own."""


OWN_WEIGHT = 10


class Kept(Protocol):
    """A version of something that has versions, and where that stood when it was read."""

    @property
    def tenant(self) -> str: ...

    @property
    def subject(self) -> str:
        """Whose version it is."""

    @property
    def revision(self) -> int:
        """Counts the changes of the subject."""

    @property
    def weight(self) -> int:
        """What it costs to keep it, in labels."""


K = TypeVar("K", bound=Kept)


class Reading:
    """A head on its way from the database into memory."""

    def __init__(self) -> None:
        self.least = 0.0
        """The revision that was heard of since it began; infinite of a subject that is gone. Less is stale."""

    @property
    def gone(self) -> bool:
        """Whether nothing may be kept of the subject."""
        return self.least == float("inf")


class Memory(Generic[K]):
    """Least recently used heads: of each subject the current version, until a change is heard of, and versions
    that were asked for by number, which do not change."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._left = capacity
        self._heads: OrderedDict[tuple[str, int | None], K] = OrderedDict()
        """By subject and the number that was asked for: None is the current one."""
        self._numbers: dict[str, set[int | None]] = {}
        self._readings: dict[str, set[Reading]] = {}

    def get(self, tenant: str, subject: str, number: int | None = None) -> K | None:
        head = self._heads.get((subject, number))
        if head is None or head.tenant != tenant:
            return None
        self._heads.move_to_end((subject, number))
        return head

    @contextmanager
    def reading(self, subject: str) -> Iterator[Reading]:
        """Begins before the database is asked (or changed) and ends when the answer has been `put`."""
        reading = Reading()
        self._readings.setdefault(subject, set()).add(reading)
        try:
            yield reading
        finally:
            self._readings[subject].discard(reading)
            if not self._readings[subject]:
                del self._readings[subject]

    def put(self, head: K, reading: Reading, number: int | None = None) -> None:
        """Keeps the head of a number. Not where the subject is gone; and the current one only if no change was
        heard of since the reading began, and no newer one is there."""
        known = self._heads.get((head.subject, number))
        least = max(reading.least, 0 if known is None else known.revision)
        if reading.gone or (number is None and head.revision < least):
            return
        self._remove(head.subject, number)
        self._heads[head.subject, number] = head
        self._numbers.setdefault(head.subject, set()).add(number)
        self._left -= head.weight
        while self._left < 0:
            self._remove(*next(iter(self._heads)))

    def drop(self, subject: str, revision: float = float("inf")) -> None:
        """The subject is now at `revision`, or gone; to be called after the commit. A head that is so stays."""
        for reading in self._readings.get(subject, ()):
            reading.least = max(reading.least, revision)
        if revision == float("inf"):
            for number in list(self._numbers.get(subject, ())):
                self._remove(subject, number)
        head = self._heads.get((subject, None))
        if head is not None and head.revision < revision:
            self._remove(subject, None)

    def clear(self) -> None:
        """Anything may have changed."""
        for subject in {*self._readings, *self._numbers}:
            self.drop(subject)

    def _remove(self, subject: str, number: int | None) -> None:
        if head := self._heads.pop((subject, number), None):
            self._left += head.weight
            self._numbers[subject].discard(number)
            if not self._numbers[subject]:
                del self._numbers[subject]
