"""Interleaved timing: contenders take turns, and a ratio is the median over rounds of two times in the same round.

Busy neighbours slow down both times of a round alike, and affect CPU time little.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, process_time

Contender = Callable[[], object]
"""Runs once. A contender that measures itself returns its `Seconds`."""


@dataclass(frozen=True)
class Seconds:
    """CPU and wall-clock time of one run."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Rounds:
    """Times of every contender in every round."""

    taken: dict[str, list[Seconds]]

    @property
    def n(self) -> int:
        """Number of rounds."""
        return len(next(iter(self.taken.values())))

    def cpu(self, name: str) -> float:
        """Return the median CPU time."""
        return statistics.median(seconds.cpu for seconds in self.taken[name])

    def times(self, name: str, of: str) -> tuple[float, float]:
        """Return the time of `name` as a multiple of that of `of`: by CPU time, and by the wall clock."""
        pairs = list(zip(self.taken[name], self.taken[of], strict=True))
        return (
            statistics.median(own.cpu / other.cpu for own, other in pairs),
            statistics.median(own.wall / other.wall for own, other in pairs),
        )


def timed(contender: Contender) -> Seconds:
    """Run a contender once, and return its times."""
    wall, cpu = perf_counter(), process_time()
    made = contender()
    taken = Seconds(process_time() - cpu, perf_counter() - wall)
    return made if isinstance(made, Seconds) else taken


def take_turns(contenders: dict[str, Contender], rounds: int, most_seconds: float) -> Rounds:
    """Run the contenders in turns for `rounds` rounds, or as many as fit into the CPU time, but at least three.

    A first round is not counted.
    """
    for contender in contenders.values():
        contender()
    taken: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for done in range(rounds):
        if done >= 3 and sum(seconds.cpu for own in taken.values() for seconds in own) > most_seconds:
            break
        for name, contender in contenders.items():
            taken[name].append(timed(contender))
    return Rounds(taken)
