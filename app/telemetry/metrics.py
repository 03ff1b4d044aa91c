"""Metrics for Prometheus. They carry no label or name that a client chose: routes are templates.

With several serving processes each writes into PROMETHEUS_MULTIPROC_DIR, which `hyperserve serve` sets before
this module is imported, and the process that is scraped answers for all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

REQUESTS = Counter("hyperserve_requests", "Requests answered.", ["route", "method", "status"])
REQUEST_SECONDS = Histogram(
    "hyperserve_request_seconds", "Time until a response began.", ["route", "method"], buckets=_FAST
)
BATCH_SIZE = Histogram(
    "hyperserve_batch_size",
    "Examples of an embed call, requests of an adapt or predict call.",
    ["call"],
    buckets=_SIZES,
)
BATCH_SECONDS = Histogram("hyperserve_batch_seconds", "Time of a batched call.", ["call"], buckets=_FAST)
WEIGHTS = Counter(
    "hyperserve_weights",
    "Look-ups of weights by tier (l1 the arena, l2 Redis, l3 regeneration) and outcome.",
    ["tier", "outcome"],
)
STREAM_QUERIES = Counter(
    "hyperserve_stream_queries", "Queries to streams, with their stream task told or inferred.", ["task"]
)
STREAM_UNKNOWN = Counter(
    "hyperserve_stream_unknown", "Queries, of those inferred, that more likely belong to no stream task."
)
ARENA_BYTES = Gauge("hyperserve_arena_bytes", "Memory used by weights of tasks.", multiprocess_mode="livesum")
ARENA_LIMIT = Gauge(
    "hyperserve_arena_limit_bytes", "Memory available for weights of tasks.", multiprocess_mode="livesum"
)
QUEUE_LENGTH = Gauge(
    "hyperserve_queue_length", "Requests that wait for the compute thread.", multiprocess_mode="livesum"
)


_BATCHES = {
    call: (BATCH_SIZE.labels(call), BATCH_SECONDS.labels(call)) for call in ("embed", "adapt", "predict")
}


def observe(call: Literal["embed", "adapt", "predict"], size: int, seconds: float) -> None:
    """Record a batched call of the engine. May be called from any thread."""
    sizes, times = _BATCHES[call]
    sizes.observe(size)
    times.observe(seconds)


def exposition(*others: Collector) -> bytes:
    """Return all metrics of all serving processes, and what `others` collect now, in Prometheus' text format."""
    registry = CollectorRegistry()
    if folder := os.environ.get(MULTIPROCESS):
        _forget_dead(Path(folder))
        MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        answer = generate_latest(registry)
    else:
        answer = generate_latest(REGISTRY)
    registry = CollectorRegistry()
    for other in others:
        registry.register(other)
    return answer + generate_latest(registry)


def _forget_dead(folder: Path) -> None:
    """Drop live gauges of dead processes; their counters stay."""
    for file in folder.glob("gauge_live*_*.db"):
        try:
            os.kill(int(file.stem.rpartition("_")[2]), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)
