"""The queue of the compute thread, by deficit round robin: flows take turns, and long calls go in slices.

A client with a thousand waiting requests, or with one of twenty thousand examples, delays another's single query
by one round, not by its whole backlog.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

from app.serving.calls import Call

ROUND = 128
"""Examples embedded per round: larger batches are no faster."""
QUANTUM = 32
"""Examples of one call per turn of its flow."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Examples `start` to `stop` of a call, to be embedded in this round."""

    call: Call
    start: int
    stop: int


class FairQueue:
    """Belongs to the compute thread; it is not thread-safe."""

    def __init__(self) -> None:
        self._flows: OrderedDict[Hashable, deque[Call]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._flows)

    def push(self, call: Call) -> None:
        self._flows.setdefault(call.flow, deque()).append(call)

    def take(self) -> tuple[list[Slice], list[Call], list[Call]]:
        """Return the slices of one round, the calls that are then complete, and the abandoned calls met on the way."""
        slices: list[Slice] = []
        complete: list[Call] = []
        dropped: list[Call] = []
        budget = ROUND
        while budget > 0 and self._flows:
            key, flow = self._flows.popitem(last=False)
            call = flow[0]
            if call.abandoned:
                dropped.append(flow.popleft())
            else:
                stop = min(call.size, call.cursor + min(QUANTUM, budget))
                budget -= max(1, stop - call.cursor)
                # Even no examples are embedded: a learner may adapt to none, and its features have a shape.
                if not call.embedded or stop > call.cursor:
                    slices.append(Slice(call, call.cursor, stop))
                    call.cursor = stop
                if call.cursor == call.size:
                    complete.append(flow.popleft())
            if flow:
                self._flows[key] = flow
        return slices, complete, dropped
