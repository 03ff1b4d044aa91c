"""Contenders that take turns: a ratio is the median over the rounds of what two took in the same round.

Busy neighbours slow both of a round alike, and the processor time of a process little.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time

Contender = Callable[[], object]
"""One that measures itself returns its `Seconds`."""


@dataclass(frozen=True)
class Seconds:
    cpu: float
    wall: float


@dataclass(frozen=True)
class Rounds:
    """Seconds of every contender in every round."""

    taken: dict[str, list[Seconds]]

    @property
    def n(self) -> int:
        return len(next(iter(self.taken.values())))

    def cpu(self, name: str) -> float:
        return statistics.median(seconds.cpu for seconds in self.taken[name])

    def times(self, name: str, of: str) -> tuple[float, float]:
        """What `name` takes as a multiple of what `of` takes: by processor time, and by the wall clock."""
        pairs = list(zip(self.taken[name], self.taken[of], strict=True))
        return (
            statistics.median(own.cpu / other.cpu for own, other in pairs),
            statistics.median(own.wall / other.wall for own, other in pairs),
        )


def timed(contender: Contender) -> Seconds:
    wall, cpu = perf_counter(), process_time()
    made = contender()
    taken = Seconds(process_time() - cpu, perf_counter() - wall)
    return made if isinstance(made, Seconds) else taken


def take_turns(contenders: dict[str, Contender], rounds: int, most_seconds: float) -> Rounds:
    """So many rounds, or as many as fit the processor time, after one that is not counted; three at the least."""
    for contender in contenders.values():
        contender()
    taken: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for done in range(rounds):
        if done >= 3 and sum(seconds.cpu for own in taken.values() for seconds in own) > most_seconds:
            break
        for name, contender in contenders.items():
            taken[name].append(timed(contender))
    return Rounds(taken)
