"""Greedy batching on one compute thread: take what waits, run, answer; no timer.

A round embeds slices of waiting jobs (one call per learner), then runs those jobs whose examples are all
embedded (one call per group). Where a batched call raises, its jobs run one by one, so a bad one fails alone.
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
from app.serving.calls import AdaptJob, Job, PredictJob
from app.serving.errors import EngineBusy, EngineClosed, LearnerFailed
from app.serving.queue import Lanes, Slice
from app.serving.types import Adapted, Answers
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
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._lanes = Lanes()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._open: set[Job] = set()
        self._jobs, self._bytes = 0, 0
        self._seconds_per_job = 1e-3

    def start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="hyperserve-compute", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Ends after the round in progress; what still waits fails with `EngineClosed`."""
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
        """Requests that have been submitted and not been answered."""
        return self._jobs

    def submit(self, job: Job) -> None:
        """Raises `EngineBusy` or `EngineClosed`; the job is then released."""
        try:
            with self._lock:
                if self._thread is None:
                    raise EngineClosed("the engine is not running")
                if self._jobs and (
                    self._jobs >= self._queue_limit or self._bytes + job.nbytes > self._queue_bytes
                ):
                    raise EngineBusy(max(1.0, self._jobs * self._seconds_per_job / 2))
                self._jobs, self._bytes = self._jobs + 1, self._bytes + job.nbytes
                self._inbox.put(job)
        except (EngineBusy, EngineClosed):
            job.release()
            raise

    def _work(self) -> None:
        # More threads lose badly to any busy neighbour. Gradients that a learner takes itself still work.
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                while self._receive():
                    self._round()
        finally:
            self._abandon()

    def _receive(self) -> bool:
        """Moves all that has arrived to the lanes, waiting only when there is nothing to do. False: close."""
        try:
            job = self._inbox.get(block=not self._lanes)
            while job is not None:
                self._open.add(job)
                self._lanes.push(job)
                job = self._inbox.get_nowait()
        except Empty:
            return True
        return False

    def _round(self) -> None:
        started = perf_counter()
        slices, complete, dropped = self._lanes.take()
        self._drop(dropped)
        for job in (*(part.job for part in slices), *complete):
            job.timing.setdefault("queue", 1e3 * (started - job.submitted))
        self._embed(slices)
        self._run(complete)
        if complete:
            spent = (perf_counter() - started) / len(complete)
            self._seconds_per_job += _SMOOTHING * (spent - self._seconds_per_job)

    def _abandon(self) -> None:
        """Whatever ended the thread, nobody waits for an answer that will not come."""
        with self._lock:
            if self._thread is threading.current_thread():
                self._thread = None
        while not self._inbox.empty():
            if (job := self._inbox.get()) is not None:
                self._open.add(job)
        self._finish([(job, EngineClosed("the engine was closed")) for job in self._open])
        self._lanes = Lanes()

    def _embed(self, slices: Sequence[Slice]) -> None:
        groups: defaultdict[Hashable, list[Slice]] = defaultdict(list)
        for part in slices:
            groups[part.job.served, part.job.x.shape[1:]].append(part)
        for group in groups.values():
            began = perf_counter()
            embedded = _attempt(group, self._embedded)
            spent = 1e3 * (perf_counter() - began)
            for part, features in zip(group, embedded, strict=True):
                job = part.job
                if isinstance(features, Tensor):
                    job.embedded.append(features)
                elif not job.done:
                    self._finish([(job, features)])
            for job in {part.job for part in group}:
                job.timing["embed"] += spent

    def _embedded(self, slices: Sequence[Slice]) -> Sequence[Tensor]:
        began = perf_counter()
        parts = [part.job.x[part.start : part.stop] for part in slices]
        served, device = slices[0].job.served, self._arena.device
        x = parts[0] if len(parts) == 1 else torch.cat(parts)
        features = served.embed(x.to(device))
        observe("embed", len(x), perf_counter() - began)
        return torch.split(features, [part.shape[0] for part in parts])

    def _run(self, complete: Sequence[Job]) -> None:
        self._drop([job for job in complete if job.future.cancelled() and not job.done])
        groups: defaultdict[Hashable, list[Job]] = defaultdict(list)
        for job in complete:
            if not job.done:
                groups[job.group].append(job)
        for group in groups.values():
            for batch in batched_calls.cut(group):
                self._finish(list(zip(batch, _attempt(batch, self._outcomes), strict=True)))

    def _outcomes(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        began = perf_counter()
        adapts = [job for job in jobs if isinstance(job, AdaptJob)]
        predicts = [job for job in jobs if isinstance(job, PredictJob)]
        made = (
            batched_calls.adapt(adapts, self._arena)
            if adapts
            else batched_calls.predict(predicts, self._arena)
        )
        spent = 1e3 * (perf_counter() - began)
        observe("adapt" if adapts else "predict", len(jobs), spent / 1e3)
        outcomes: list[Outcome] = []
        for job, value in zip(jobs, made, strict=True):
            if isinstance(value, Exception):
                outcomes.append(value)
            elif isinstance(value, TaskWeights):
                outcomes.append(Adapted(value, job.features.cpu().numpy(), job.timing | {"adapt": spent}))
            else:
                outcomes.append(Answers(value, job.timing | {"predict": spent}, job.features))
        return outcomes

    def _drop(self, jobs: Sequence[Job]) -> None:
        """Forgets jobs whose client has gone."""
        self._finish([(job, EngineClosed("the client has gone")) for job in jobs if not job.done])

    def _finish(self, settled: Sequence[tuple[Job, Outcome]]) -> None:
        """Releases jobs and delivers their outcomes, with one wake-up of the event loop for all."""
        if not settled:
            return
        by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[Job, Outcome]]] = defaultdict(list)
        for job, outcome in settled:
            job.done = True
            job.release()
            self._open.discard(job)
            by_loop[job.loop].append((job, outcome))
        with self._lock:
            self._jobs -= len(settled)
            self._bytes -= sum(job.nbytes for job, _ in settled)
        for loop, outcomes in by_loop.items():
            # A loop that has closed has no one left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, outcomes)


def _attempt(
    group: Sequence[Work], run: Callable[[Sequence[Work]], Sequence[Made]]
) -> list[Made | Exception]:
    """What each member comes to: all in one call, or one by one where that raises."""
    try:
        return list(run(group))
    except Exception as error:  # A learner may raise anything, and its client must hear of it.
        if len(group) > 1:
            return [made for member in group for made in _attempt([member], run)]
        if isinstance(error, LearnerError):
            return [error]
        logger.warning("a learner failed", exc_info=error)
        failure = LearnerFailed(f"{type(error).__name__}: {error}")
        failure.__cause__ = error
        return [failure]


def _deliver(settled: Sequence[tuple[Job, Outcome]]) -> None:
    for job, outcome in settled:
        if job.future.done():
            continue
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)
