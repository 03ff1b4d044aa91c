"""Queries to streams: of a stream task that is named, or of whichever they belong to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from app.db.engine import Database
from app.http import multipart, strict_json
from app.http.body import Body
from app.http.fields import Options, Slug
from app.http.limits import COVERAGE_DEFAULT, TOP_MAX
from app.http.validation import validated
from app.payloads.inputs import decode
from app.payloads.options import Number, QueriesField
from app.payloads.support import Sent, from_parts, queries_from_json
from app.serving.engine import Engine
from app.serving.types import Answers
from app.streams import versions
from app.streams.bundled import BundledStreams
from app.streams.cache import StreamInvalidation
from app.streams.learners import Built, StreamLearners
from app.streams.mixture import Told, combined, told, wanted
from app.streams.versions import StreamHead, StreamHeads, subject
from app.streams.weights import StreamWeights
from app.telemetry.metrics import STREAM_QUERIES, STREAM_UNKNOWN
from app.telemetry.spans import span
from hyperserve.stream_types import StreamPrediction, StreamPredictions
from hyperserve.types import Timing
from models.continual.config import StreamConfig
from models.predictive import Categorical


class PredictOptions(Options):
    task: Slug | None = Field(
        default=None, description="Name of a stream task; left out, it is inferred for each query."
    )
    version: Number | None = Field(default=None, description="A version's number; left out, the current one.")
    coverage: float = Field(
        default=COVERAGE_DEFAULT,
        gt=0,
        lt=1,
        description="Probability that prediction sets shall hold together.",
    )
    top: int | None = Field(
        default=None,
        ge=1,
        le=TOP_MAX,
        description="Report this many most probable classes only, in falling order.",
    )


class StreamPredict(PredictOptions):
    """Queries to a stream."""

    queries: QueriesField


def read_queries(body: Body, options: PredictOptions) -> tuple[PredictOptions, tuple[Sent, ...]]:
    """Raises `ProblemError`."""
    if body.kind == "json":
        request = validated(StreamPredict, strict_json.parse(body.data), options)
        return request, queries_from_json(request.queries)
    if body.kind == "multipart":
        _, sents = from_parts(multipart.parse(body), support=False, queries=True)
        return options, sents
    return options, (Sent(multipart.Part("query", "image", body.data), ("queries", 0)),)


def decode_queries(sents: tuple[Sent, ...], config: StreamConfig) -> npt.NDArray[np.float32]:
    """Array [n, *input]. Raises `ProblemError`."""
    shape = config.shape if config.encoder is None and config.input.kind == "vector" else None
    return decode(sents, config.input, shape).x


P = ParamSpec("P")
R = TypeVar("R")
UNKNOWN = 0.5
LONG_ANSWER = 5_000
"""Probabilities in an answer from which on making it would hold up other requests."""


@dataclass(frozen=True)
class StreamAsking:
    """Raises `ProblemError`, and what the engine raises."""

    database: Database
    engine: Engine
    pool: Executor
    heads: StreamHeads
    bundled: BundledStreams
    learners: StreamLearners
    weights: StreamWeights

    @cached_property
    def invalidation(self) -> StreamInvalidation:
        """To be told of changes, those by this process as soon as they are committed."""
        return StreamInvalidation(self.heads, self.weights, self.engine)

    async def check(self, tenant: str, stream: str, number: int | None) -> None:
        """Raises `ProblemError` 404, or 409, before a body is read."""
        await self.head(tenant, stream, number)

    async def head(self, tenant: str, stream: str, number: int | None) -> StreamHead:
        """A version, the current one without a number: from memory when it is there, else from the database."""
        if found := self.bundled.head(stream):
            if number not in (None, found.number):
                raise versions.no_version()
            return found
        where = subject(tenant, stream)
        if head := self.heads.get(tenant, where, number):
            return head
        with self.heads.reading(where) as reads:
            async with self.database.read() as session:
                head = await versions.head(session, tenant, stream, number)
            self.heads.put(head, reads, number)
        return head

    async def predict(
        self, tenant: str, stream: str, body: Body, options: PredictOptions, timing: Timing
    ) -> StreamPredictions:
        head = await self.head(tenant, stream, options.version)
        started = time.perf_counter()
        with span("decode"):
            asked, sents = await self._off_loop(read_queries, body, options)
            if asked.version != options.version:
                head = await self.head(tenant, stream, asked.version)
            if asked.task is not None and asked.task not in head.labels:
                raise await self._no_task(head, asked.task)
            x = await self._off_loop(decode_queries, sents, head.config)
        timing["decode"] = timing.get("decode", 0.0) + (time.perf_counter() - started) * 1e3
        built = await self.learners.of(head)
        if asked.task is not None:
            found = await self._told(head, built, asked.task, x, asked, timing)
        else:
            found = await self._inferred(head, built, x, asked, timing)
        STREAM_QUERIES.labels("inferred" if asked.task is None else "told").inc(len(found))
        STREAM_UNKNOWN.inc(sum((one.unknown or 0) > UNKNOWN for one in found))
        return StreamPredictions(
            stream=stream, version=head.number, task=asked.task, predictions=found, timing=timing
        )

    async def _told(
        self,
        head: StreamHead,
        built: Built,
        task: str,
        x: npt.NDArray[np.float32],
        asked: PredictOptions,
        timing: Timing,
    ) -> list[StreamPrediction]:
        answers = await self.engine.predict(
            head.network_key(task),
            built.served.networks,
            x,
            samples=0,
            regenerate=partial(self.weights.network, head, built, task),
        )
        timing |= answers.timing
        labels = head.labels[task]
        work = partial(told, _categorical(answers), task, labels, coverage=asked.coverage, top=asked.top)
        return await self._made(work, len(x) * len(labels))

    async def _inferred(
        self,
        head: StreamHead,
        built: Built,
        x: npt.NDArray[np.float32],
        asked: PredictOptions,
        timing: Timing,
    ) -> list[StreamPrediction]:
        gate = await self.engine.predict(
            head.gate_key,
            built.served.gate,
            x,
            samples=0,
            regenerate=partial(self.weights.gate, head, built),
        )
        timing |= {**gate.timing, "gate": gate.timing["predict"]}
        posterior, names = _categorical(gate), list(head.labels)
        tasks = wanted(posterior, head.config.scenario)
        answers = await asyncio.gather(
            *(self._network(head, built, task, gate.features, tasks) for task in _distinct(tasks))
        )
        for phase in ("queue", "predict"):
            timing[phase] = gate.timing[phase] * (phase == "queue") + max(
                answer.timing[phase] for _, _, answer in answers
            )
        found = {task: Told(rows, _categorical(answer).log_probs[0]) for task, rows, answer in answers}
        labels = list(head.labels.values())
        work = partial(
            combined,
            posterior,
            tasks,
            found,
            labels,
            head.config.scenario,
            names,
            coverage=asked.coverage,
            top=asked.top,
        )
        return await self._made(work, len(x) * tasks.shape[1] * max(map(len, labels)))

    async def _network(
        self,
        head: StreamHead,
        built: Built,
        task: int,
        features: Float[Tensor, "query *feature"],
        tasks: Int[Tensor, "query asked"],
    ) -> tuple[int, Int[Tensor, "some"], Answers]:
        """The answers of one stream task to those queries that may be of it."""
        rows = (tasks == task).any(-1).nonzero()[:, 0]
        name = list(head.labels)[task]
        answers = await self.engine.predict_embedded(
            head.network_key(name),
            built.served.networks,
            features[rows.to(features.device)],
            regenerate=partial(self.weights.network, head, built, name),
        )
        return task, rows, answers

    async def _no_task(self, head: StreamHead, task: str) -> Exception:
        if head.bundle is not None:
            return versions.no_task(head)
        async with self.database.read() as session:
            return await versions.why_not(session, head, task)

    async def _made(self, work: Callable[[], list[StreamPrediction]], numbers: int) -> list[StreamPrediction]:
        return work() if numbers < LONG_ANSWER else await self._off_loop(work)

    async def _off_loop(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self.pool, partial(work, *args, **kwargs))


def _categorical(answers: Answers) -> Categorical:
    assert isinstance(answers.predictive, Categorical)
    return answers.predictive


def _distinct(tasks: Int[Tensor, "query asked"]) -> Sequence[int]:
    found: list[int] = torch.unique(tasks).tolist()
    return found
