"""The waiting room of the compute thread: lanes take turns, and long jobs go in slices.

So a client with a thousand waiting requests, or one of twenty thousand examples, delays another's single
query by a round, not by its whole backlog.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from app.serving.calls import Job

ROUND = 128
"""Examples embedded per round: where larger batches stop being faster."""
QUANTUM = 32
"""Examples of one job per turn of its lane."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Examples `start` to `stop` of a job, to be embedded in this round."""

    job: Job
    start: int
    stop: int


class Lanes:
    """Not thread-safe: belongs to the compute thread."""

    def __init__(self) -> None:
        self._lanes: OrderedDict[Hashable, deque[Job]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def push(self, job: Job) -> None:
        self._lanes.setdefault(job.lane, deque()).append(job)

    def take(self) -> tuple[list[Slice], list[Job], list[Job]]:
        """The slices of one round, the jobs that are then complete, and the unwanted jobs met on the way."""
        slices: list[Slice] = []
        complete: list[Job] = []
        dropped: list[Job] = []
        budget = ROUND
        while budget > 0 and self._lanes:
            key, lane = self._lanes.popitem(last=False)
            job = lane[0]
            if job.unwanted:
                dropped.append(lane.popleft())
            else:
                stop = min(job.size, job.cursor + min(QUANTUM, budget))
                budget -= max(1, stop - job.cursor)
                # Even no examples are embedded: a learner may adapt to none, and its features have a shape.
                if not job.embedded or stop > job.cursor:
                    slices.append(Slice(job, job.cursor, stop))
                    job.cursor = stop
                if job.cursor == job.size:
                    complete.append(lane.popleft())
            if lane:
                self._lanes[key] = lane
        return slices, complete, dropped
