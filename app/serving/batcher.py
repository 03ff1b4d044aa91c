"""Greedy batching on one compute thread: take what waits, run it, answer; no timer.

A round embeds slices of waiting calls (one batch per learner), then runs the calls whose examples are all
embedded (one batch per group). If a batch raises, its calls run one by one, so that a bad one fails alone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor

from app.serving import batched_calls
from app.serving.arena import Arena
from app.serving.calls import AdaptCall, Call, PredictCall
from app.serving.engine_types import Adapted, Answers
from app.serving.errors import EngineBusyError, EngineClosedError, LearnerFailedError
from app.serving.fair_queue import FairQueue, Slice
from app.telemetry.metrics import observe
from models.protocol import LearnerError, TaskWeights

logger = logging.getLogger(__name__)
Work = TypeVar("Work")
Made = TypeVar("Made")
Outcome = Adapted | Answers | Exception

_SMOOTHING = 0.1


class Batcher:
    """Owns the compute thread. `submit` may be called from any thread."""

    def __init__(self, arena: Arena, *, queue_limit: int, queue_bytes: int) -> None:
        self._arena = arena
        self._queue_limit, self._queue_bytes = queue_limit, queue_bytes
        self._inbox: SimpleQueue[Call | None] = SimpleQueue()
        self._queue = FairQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._open: set[Call] = set()
        self._calls, self._bytes = 0, 0
        self._seconds_per_call = 1e-3

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="hyperserve-compute", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stop after the round in progress; calls that still wait fail with `EngineClosedError`."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._inbox.put(None)
        if thread is not None:
            thread.join()

    @property
    def alive(self) -> bool:
        with self._lock:
            return self._thread is not None

    @property
    def waiting(self) -> int:
        """The number of calls submitted and not answered yet."""
        return self._calls

    def submit(self, call: Call) -> None:
        """Queue a call. Raises `EngineBusyError` or `EngineClosedError`, having released the call."""
        try:
            with self._lock:
                if self._thread is None:
                    raise EngineClosedError("the engine is not running")
                if self._calls and (
                    self._calls >= self._queue_limit or self._bytes + call.nbytes > self._queue_bytes
                ):
                    raise EngineBusyError(max(1.0, self._calls * self._seconds_per_call / 2))
                self._calls, self._bytes = self._calls + 1, self._bytes + call.nbytes
                self._inbox.put(call)
        except (EngineBusyError, EngineClosedError):
            call.release()
            raise

    def _work(self) -> None:
        # More threads lose badly to any busy neighbour. Gradients that a learner computes itself still work.
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                while self._receive():
                    self._round()
        finally:
            self._abandon()

    def _receive(self) -> bool:
        """Move arrived calls to the queue, waiting only if there is nothing to do. Return false to stop."""
        try:
            call = self._inbox.get(block=not self._queue)
            while call is not None:
                self._open.add(call)
                self._queue.push(call)
                call = self._inbox.get_nowait()
        except Empty:
            return True
        return False

    def _round(self) -> None:
        started = perf_counter()
        slices, complete, dropped = self._queue.take()
        self._drop(dropped)
        for call in (*(part.call for part in slices), *complete):
            call.timing.setdefault("queue", 1e3 * (started - call.submitted))
        self._embed(slices)
        self._run(complete)
        if complete:
            spent = (perf_counter() - started) / len(complete)
            self._seconds_per_call += _SMOOTHING * (spent - self._seconds_per_call)

    def _abandon(self) -> None:
        """Fail all open calls: whatever ended the thread, nobody waits for an answer that will not come."""
        with self._lock:
            if self._thread is threading.current_thread():
                self._thread = None
        while not self._inbox.empty():
            if (call := self._inbox.get()) is not None:
                self._open.add(call)
        self._finish([(call, EngineClosedError("the engine was closed")) for call in self._open])
        self._queue = FairQueue()

    def _embed(self, slices: Sequence[Slice]) -> None:
        groups: defaultdict[Hashable, list[Slice]] = defaultdict(list)
        for part in slices:
            groups[part.call.served, part.call.x.shape[1:]].append(part)
        for group in groups.values():
            began = perf_counter()
            embedded = _attempt(group, self._embedded)
            spent = 1e3 * (perf_counter() - began)
            for part, features in zip(group, embedded, strict=True):
                call = part.call
                if isinstance(features, Tensor):
                    call.embedded.append(features)
                elif not call.done:
                    self._finish([(call, features)])
            for call in {part.call for part in group}:
                call.timing["embed"] += spent

    def _embedded(self, slices: Sequence[Slice]) -> Sequence[Tensor]:
        began = perf_counter()
        parts = [part.call.x[part.start : part.stop] for part in slices]
        served, device = slices[0].call.served, self._arena.device
        x = parts[0] if len(parts) == 1 else torch.cat(parts)
        features = served.embed(x.to(device))
        observe("embed", len(x), perf_counter() - began)
        return torch.split(features, [part.shape[0] for part in parts])

    def _run(self, complete: Sequence[Call]) -> None:
        self._drop([call for call in complete if call.future.cancelled() and not call.done])
        groups: defaultdict[Hashable, list[Call]] = defaultdict(list)
        for call in complete:
            if not call.done:
                groups[call.group].append(call)
        for group in groups.values():
            for batch in batched_calls.cut(group):
                self._finish(list(zip(batch, _attempt(batch, self._outcomes), strict=True)))

    def _outcomes(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        began = perf_counter()
        adapts = [call for call in calls if isinstance(call, AdaptCall)]
        predicts = [call for call in calls if isinstance(call, PredictCall)]
        made = (
            batched_calls.adapt(adapts, self._arena)
            if adapts
            else batched_calls.predict(predicts, self._arena)
        )
        spent = 1e3 * (perf_counter() - began)
        observe("adapt" if adapts else "predict", len(calls), spent / 1e3)
        outcomes: list[Outcome] = []
        for call, value in zip(calls, made, strict=True):
            if isinstance(value, Exception):
                outcomes.append(value)
            elif isinstance(value, TaskWeights):
                outcomes.append(Adapted(value, call.features.cpu().numpy(), call.timing | {"adapt": spent}))
            else:
                outcomes.append(Answers(value, call.timing | {"predict": spent}, call.features))
        return outcomes

    def _drop(self, calls: Sequence[Call]) -> None:
        """Discard calls whose client has gone."""
        self._finish([(call, EngineClosedError("the client has gone")) for call in calls if not call.done])

    def _finish(self, settled: Sequence[tuple[Call, Outcome]]) -> None:
        """Release calls and deliver their outcomes, with one wake-up of the event loop for all."""
        if not settled:
            return
        by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[Call, Outcome]]] = defaultdict(list)
        for call, outcome in settled:
            call.done = True
            call.release()
            self._open.discard(call)
            by_loop[call.loop].append((call, outcome))
        with self._lock:
            self._calls -= len(settled)
            self._bytes -= sum(call.nbytes for call, _ in settled)
        for loop, outcomes in by_loop.items():
            # A closed loop has nobody left to deliver to.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, outcomes)


def _attempt(
    group: Sequence[Work], run: Callable[[Sequence[Work]], Sequence[Made]]
) -> list[Made | Exception]:
    """Return the outcome of each member: all in one batch, or one by one if that raises."""
    try:
        return list(run(group))
    except Exception as error:  # A learner may raise anything, and its client must get an answer.
        if len(group) > 1:
            return [made for member in group for made in _attempt([member], run)]
        if isinstance(error, LearnerError):
            return [error]
        logger.warning("a learner failed", exc_info=error)
        failure = LearnerFailedError(f"{type(error).__name__}: {error}")
        failure.__cause__ = error
        return [failure]


def _deliver(settled: Sequence[tuple[Call, Outcome]]) -> None:
    for call, outcome in settled:
        if call.future.done():
            continue
        if isinstance(outcome, Exception):
            call.future.set_exception(outcome)
        else:
            call.future.set_result(outcome)
