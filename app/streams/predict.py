"""Predictions by a stream: of the stream task that a request names, or of those that each query may belong to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from app.db.tenancy import Store
from app.http import multipart, strict_json
from app.http.body import Body
from app.http.validation import validated
from app.payloads.inputs import decode
from app.payloads.support import SubmittedInput, queries_from_json, queries_from_parts
from app.payloads.warnings import query_warnings
from app.serving.engine_types import Answers
from app.streams.learners import BuiltStreamLearner
from app.streams.mixture import TaskPredictive, candidate_tasks, mixture_predictions, task_predictions
from app.streams.resources import StreamResources
from app.streams.schemas import StreamPredict, StreamPredictOptions
from app.streams.versions import (
    StreamVersionRef,
    load_version,
    missing_task_problem,
    subject,
    task_not_in_version,
    version_not_found,
)
from app.streams.weights import StreamWeights
from app.telemetry.metrics import STREAM_QUERIES, STREAM_UNKNOWN
from app.telemetry.spans import span
from hyperserve.stream_types import StreamPrediction, StreamPredictions
from hyperserve.types import Notice, Timing
from models.continual.stream_config import StreamConfig
from models.predictive import Categorical

UNKNOWN = 0.5
"""Probability from which on a query counts as unknown in the metrics."""
LONG_ANSWER = 5_000
"""Probabilities in an answer from which on computing them would hold up other requests."""

P = ParamSpec("P")
R = TypeVar("R")
Inputs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Query:
    """The decoded inputs of a request, and what answers them."""

    version: StreamVersionRef
    built: BuiltStreamLearner
    options: StreamPredictOptions
    x: Inputs


@dataclass(frozen=True)
class StreamPredictService:
    """Raises `ProblemError`, and what the engine raises."""

    resources: StreamResources
    store: Store

    async def check(self, stream: str, number: int | None) -> None:
        """Raises `ProblemError` 404, or 409, before a body is read."""
        await self._version(stream, number)

    async def predict(self, stream: str, body: Body, options: StreamPredictOptions) -> StreamPredictions:
        started = time.perf_counter()
        with span("decode"):
            version, options, x, warnings = await self._decoded(stream, body, options)
        decode_ms = (time.perf_counter() - started) * 1e3
        query = _Query(version, await self.resources.stream_learners.get(version), options, x)
        task = options.task
        found, timing = await (self._inferred(query) if task is None else self._named(query, task))
        STREAM_QUERIES.labels("inferred" if task is None else "told").inc(len(found))
        STREAM_UNKNOWN.inc(sum((one.unknown or 0) > UNKNOWN for one in found))
        return StreamPredictions(
            stream=stream,
            version=version.number,
            task=task,
            predictions=found,
            timing={"decode": decode_ms, **timing},
            warnings=warnings,
        )

    async def _version(self, stream: str, number: int | None) -> StreamVersionRef:
        """Return a version, by default the current one, from memory or else from the database."""
        if bundled := self.resources.bundled.version(stream):
            if number not in (None, bundled.number):
                raise version_not_found()
            return bundled
        tenant, cache = self.store.tenant, self.resources.versions
        key = subject(tenant, stream)
        if version := cache.get(tenant, key, number):
            return version
        with cache.reading(key) as reading:
            async with self.store.read() as session:
                version = await load_version(session, stream, number)
            cache.put(version, reading, number)
        return version

    async def _decoded(
        self, stream: str, body: Body, options: StreamPredictOptions
    ) -> tuple[StreamVersionRef, StreamPredictOptions, Inputs, list[Notice]]:
        options, queries = await self.resources.runtime.in_decoder(_read_queries, body, options)
        version = await self._version(stream, options.version)
        if options.task is not None and options.task not in version.labels:
            raise await self._missing_task(version, options.task)
        x, warnings = await self.resources.runtime.in_decoder(_decode_queries, queries, version.config)
        return version, options, x, warnings

    async def _missing_task(self, version: StreamVersionRef, task: str) -> Exception:
        if version.bundle is not None:
            return task_not_in_version(version)
        async with self.store.read() as session:
            return await missing_task_problem(session, version, task)

    async def _named(self, query: _Query, task: str) -> tuple[list[StreamPrediction], Timing]:
        """Answer by the network of the stream task that the request names."""
        answers = await self.resources.runtime.engine.predict(
            query.version.network_key(task),
            query.built.served.networks,
            query.x,
            samples=0,
            regenerate=partial(self._weights.network, query.version, query.built, task),
        )
        labels, options = query.version.labels[task], query.options
        work = partial(task_predictions, _categorical(answers), task, labels)
        found = await self._computed(
            partial(work, coverage=options.coverage, top=options.top), len(query.x) * len(labels)
        )
        return found, answers.timing

    async def _inferred(self, query: _Query) -> tuple[list[StreamPrediction], Timing]:
        """Answer by the networks of the stream tasks that each query most probably belongs to."""
        version, options = query.version, query.options
        gate = await self.resources.runtime.engine.predict(
            version.gate_key,
            query.built.served.gate,
            query.x,
            samples=0,
            regenerate=partial(self._weights.gate, version, query.built),
        )
        posterior, labels = _categorical(gate), list(version.labels.values())
        candidates = candidate_tasks(posterior, version.config.scenario)
        tasks: list[int] = torch.unique(candidates).tolist()
        answers = await asyncio.gather(*(self._component(query, gate, candidates, task) for task in tasks))
        components = {
            task: TaskPredictive(rows, _categorical(answer).log_probs[0])
            for task, (rows, answer) in zip(tasks, answers, strict=True)
        }
        work = partial(
            mixture_predictions,
            posterior,
            candidates,
            components,
            labels,
            version.config.scenario,
            list(version.labels),
            coverage=options.coverage,
            top=options.top,
        )
        found = await self._computed(work, candidates.numel() * max(map(len, labels)))
        return found, _timing(gate, [answer for _, answer in answers])

    async def _component(
        self, query: _Query, gate: Answers, candidates: Int[Tensor, "query candidate"], task: int
    ) -> tuple[Int[Tensor, "some"], Answers]:
        """Return the queries that a stream task is a candidate for, and the answers of its network to them."""
        rows = (candidates == task).any(-1).nonzero()[:, 0]
        name = list(query.version.labels)[task]
        answers = await self.resources.runtime.engine.predict_embedded(
            query.version.network_key(name),
            query.built.served.networks,
            gate.features[rows.to(gate.features.device)],
            regenerate=partial(self._weights.network, query.version, query.built, name),
        )
        return rows, answers

    @property
    def _weights(self) -> StreamWeights:
        runtime = self.resources.runtime
        return StreamWeights(self.store, self.resources.tensors, runtime.cluster, runtime.builders)

    async def _computed(
        self, work: Callable[[], list[StreamPrediction]], probabilities: int
    ) -> list[StreamPrediction]:
        return work() if probabilities < LONG_ANSWER else await self.resources.runtime.in_decoder(work)


def _read_queries(
    body: Body, options: StreamPredictOptions
) -> tuple[StreamPredictOptions, tuple[SubmittedInput, ...]]:
    """Return the options, which a JSON body may hold as well, and the queries. Raises `ProblemError`."""
    if body.kind == "json":
        request = validated(StreamPredict, strict_json.parse(body.data), options)
        return request, queries_from_json(request.queries)
    if body.kind == "multipart":
        queries = queries_from_parts(multipart.parse(body))
        return options, queries
    return options, (SubmittedInput(multipart.Part("query", "image", body.data), ("queries", 0)),)


def _decode_queries(queries: tuple[SubmittedInput, ...], config: StreamConfig) -> tuple[Inputs, list[Notice]]:
    """Return an array [n, *input], and warnings about it. Raises `ProblemError`."""
    shape = config.shape if config.encoder is None and config.input.kind == "vector" else None
    x = decode(queries, config.input, shape).x
    return x, query_warnings(queries, x)


def _categorical(answers: Answers) -> Categorical:
    assert isinstance(answers.predictive, Categorical)
    return answers.predictive


def _timing(gate: Answers, networks: list[Answers]) -> Timing:
    """Return the phases of a request whose networks run side by side after the gate."""
    slowest = {phase: max(answer.timing[phase] for answer in networks) for phase in ("queue", "predict")}
    return {
        **gate.timing,
        "gate": gate.timing["predict"],
        "queue": gate.timing["queue"] + slowest["queue"],
        "predict": slowest["predict"],
    }
