"""Versions of tasks and streams that are cached in the process, so that a warm predict needs no database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

CAPACITY = 1_000_000
"""The sum of the weights of all entries; an entry weighs as much as it has labels, and `OWN_WEIGHT`."""
OWN_WEIGHT = 10


class CachedVersion(Protocol):
    """A version of a subject (a task or a stream), and where the subject stood when it was read."""

    @property
    def tenant(self) -> str: ...

    @property
    def subject(self) -> str:
        """Id of what it is a version of."""

    @property
    def revision(self) -> int:
        """Counts the changes of the subject."""

    @property
    def weight(self) -> int:
        """Cost of keeping it, in labels."""


V = TypeVar("V", bound=CachedVersion)


class PendingRead:
    """A version on its way from the database into the cache."""

    def __init__(self) -> None:
        self.least = 0.0
        """The revision that was announced since the read began; infinite if the subject is gone. Less is stale."""

    @property
    def gone(self) -> bool:
        """Whether the subject was deleted meanwhile, so that nothing of it may be cached."""
        return self.least == float("inf")


class VersionCache(Generic[V]):
    """A least-recently-used cache. It holds the current version of a subject until a change is announced, and
    versions that requests named by number, which do not change."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._left = capacity
        self._entries: OrderedDict[tuple[str, int | None], V] = OrderedDict()
        """By subject and the number that a request named: None is the current version."""
        self._numbers: dict[str, set[int | None]] = {}
        self._reads: dict[str, set[PendingRead]] = {}

    def get(self, tenant: str, subject: str, number: int | None = None) -> V | None:
        entry = self._entries.get((subject, number))
        if entry is None or entry.tenant != tenant:
            return None
        self._entries.move_to_end((subject, number))
        return entry

    @contextmanager
    def reading(self, subject: str) -> Iterator[PendingRead]:
        """Enter before the database is read or changed; leave when the version has been `put`."""
        read = PendingRead()
        self._reads.setdefault(subject, set()).add(read)
        try:
            yield read
        finally:
            self._reads[subject].discard(read)
            if not self._reads[subject]:
                del self._reads[subject]

    def put(self, version: V, read: PendingRead, number: int | None = None) -> None:
        """Cache a version under a number, unless its subject is gone.

        The current version (None) is cached only if no change was announced since the read began, and no newer
        one is cached.
        """
        known = self._entries.get((version.subject, number))
        least = max(read.least, 0 if known is None else known.revision)
        if read.gone or (number is None and version.revision < least):
            return
        self._remove(version.subject, number)
        self._entries[version.subject, number] = version
        self._numbers.setdefault(version.subject, set()).add(number)
        self._left -= version.weight
        while self._left < 0:
            self._remove(*next(iter(self._entries)))

    def drop(self, subject: str, revision: float = float("inf")) -> None:
        """Drop what is older than `revision`, or everything of a subject that is gone. Call it after the commit."""
        for read in self._reads.get(subject, ()):
            read.least = max(read.least, revision)
        if revision == float("inf"):
            for number in list(self._numbers.get(subject, ())):
                self._remove(subject, number)
        current = self._entries.get((subject, None))
        if current is not None and current.revision < revision:
            self._remove(subject, None)

    def clear(self) -> None:
        """Drop everything: anything may have changed."""
        for subject in {*self._reads, *self._numbers}:
            self.drop(subject)

    def _remove(self, subject: str, number: int | None) -> None:
        if entry := self._entries.pop((subject, number), None):
            self._left += entry.weight
            self._numbers[subject].discard(number)
            if not self._numbers[subject]:
                del self._numbers[subject]
