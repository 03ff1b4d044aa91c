"""Any number of queries in one call: split by the limits of the server, answered in parallel, joined in order."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperserve import (
    AsyncClient,
    Client,
    InvalidArgumentError,
    Task,
    TooLargeError,
    UnprocessableError,
)
from hyperserve.aio.task import AsyncTask
from hyperserve.query_batches import BATCHES_AT_ONCE, MOST_QUERIES, QueryBatches
from hyperserve.types import Limits
from tests.app.server import Server
from tests.hyperserve.scripted import (
    PREDICTIONS,
    TASK,
    ReceivedRequest,
    Reply,
    Script,
    problem,
    scripted,
)

USUAL = dict.fromkeys(Limits.model_fields, 1000) | {"queries": MOST_QUERIES, "json_bytes": 32 << 20}
UNFAMILIAR = {"code": "unfamiliar_support", "detail": "Unlike.", "pointer": None}
"""A warning about the task, which comes with every part of an answer."""


class QueryServer:
    """Answers each query by its first number as `confidence`; version 7 becomes 8 after the first answer."""

    def __init__(self, delay: float = 0.0, **limits: int) -> None:
        self.limits = USUAL | limits
        self.delay = delay
        self.bad: float | None = None
        self.sizes: list[int] = []
        self.versions: list[str | int | None] = []
        self.running = self.most_running = 0
        self._lock = threading.Lock()

    def reply(self, request: ReceivedRequest) -> Reply:
        if request.path == "/v1/limits":
            return Reply(body=self.limits)
        if request.path == "/v1/tasks":
            return Reply(201, TASK)
        with self._lock:
            self.running += 1
            self.most_running = max(self.running, self.most_running)
        try:
            time.sleep(self.delay)
            return self._predict(request)
        finally:
            with self._lock:
                self.running -= 1

    def _predict(self, request: ReceivedRequest) -> Reply:
        queries = request.body["queries"]
        if len(json.dumps(request.body, separators=(",", ":"))) > self.limits["json_bytes"]:
            return Reply(413, problem(413, "body_too_large"))
        if len(queries) > self.limits["queries"]:
            fault = {"code": "too_many_queries", "detail": "Too many.", "pointer": "/queries"}
            return Reply(422, problem(422, "too_many_queries", errors=[fault]))
        numbers = [query["vector"][0] for query in queries]
        if self.bad in numbers:
            pointer = f"/queries/{numbers.index(self.bad)}/vector"
            fault = {"code": "not_finite", "detail": "Bad.", "pointer": pointer}
            return Reply(422, problem(422, "not_finite", errors=[fault]))
        with self._lock:
            asked = parse_qs(urlsplit(request.path).query).get("version", [None])[0] or request.body.get(
                "version"
            )
            self.versions.append(asked)
            self.sizes.append(len(queries))
            version = int(asked or (7 if len(self.sizes) == 1 else 8))
        (template,) = PREDICTIONS["predictions"]  # type: ignore[misc]
        notice = {"code": "blank_query", "detail": "Blank.", "pointer": "/queries/0"}
        answer = PREDICTIONS | {
            "version": version,
            "predictions": [{**template, "confidence": number} for number in numbers],
            "timing": {"predict": 1.0, "total": 2.0},
            "warnings": [UNFAMILIAR, notice],
        }
        return Reply(body=answer)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> QueryServer:
    return QueryServer(**getattr(request, "param", {}))


@pytest.fixture
def script(service: QueryServer) -> Iterator[Script]:
    with scripted(Reply(body=service.reply)) as made:
        yield made


@pytest.fixture
def task(script: Script) -> Iterator[Task]:
    with Client(script.url, max_retries=0) as client:
        yield client.tasks.create({"a": [[1]], "b": [[2]]})


def paths(script: Script) -> list[str]:
    return [urlsplit(request.path).path for request in script.requests[1:]]


def test_what_fits_is_one_request(task: Task, service: QueryServer, script: Script) -> None:
    seen: list[tuple[int, int]] = []
    answer = task.predict([[n] for n in range(MOST_QUERIES)], on_progress=lambda *n: seen.append(n))
    assert len(answer.predictions) == MOST_QUERIES
    assert paths(script) == ["/v1/tasks/task_1/predict"]
    assert seen == [(MOST_QUERIES, MOST_QUERIES)]


@pytest.mark.parametrize("service", [{"delay": 0.05}], indirect=True)
@pytest.mark.parametrize("count", [MOST_QUERIES + 1, 2_000, 10 * MOST_QUERIES])
def test_more_are_answered_in_order_by_one_version(task: Task, service: QueryServer, count: int) -> None:
    seen: list[tuple[int, int]] = []
    answer = task.predict(([n] for n in range(count)), top=1, on_progress=lambda *n: seen.append(n))
    assert [found.confidence for found in answer.predictions] == list(range(count))
    assert max(service.sizes) <= MOST_QUERIES
    assert service.versions == [None] + ["7"] * (len(service.sizes) - 1)
    assert service.most_running <= BATCHES_AT_ONCE
    if count > 5 * MOST_QUERIES:
        assert service.most_running > 1
    assert seen == sorted(seen)
    assert seen[-1] == (count, count)
    assert answer.version == 7
    assert answer.timing == {"predict": len(seen), "total": 2.0 * len(seen)}
    assert [notice.code for notice in answer.warnings].count("unfamiliar_support") == 1
    starts = [notice.pointer for notice in answer.warnings if notice.code == "blank_query"]
    assert starts == [f"/queries/{start}" for start in range(0, count, MOST_QUERIES)]


def test_a_version_that_was_named_stays(task: Task, service: QueryServer) -> None:
    assert task.predict([[0]] * 3_000, version=3).version == 3
    assert service.versions == ["3"] * 3


@pytest.mark.parametrize("service", [{"queries": 100}, {"json_bytes": 1_000}, {"queries": 1}], indirect=True)
def test_a_server_with_other_limits(task: Task, service: QueryServer) -> None:
    answer = task.predict([[n] for n in range(250)], coverage=0.5)
    assert [found.confidence for found in answer.predictions] == list(range(250))


@pytest.mark.parametrize("service", [{"json_bytes": 500}], indirect=True)
def test_one_query_that_is_too_large(task: Task) -> None:
    with pytest.raises(TooLargeError):
        task.predict([[0.1] * 200])
    with pytest.raises(
        InvalidArgumentError, match=r"query 2 takes [0-9]+ bytes in JSON; a request has room for"
    ):
        task.predict([[1], [2], [0.1] * 200])


@pytest.mark.parametrize("bad", [0, 5, 1_023, 1_024, 1_500, 2_999])
def test_an_error_counts_all_queries(task: Task, service: QueryServer, bad: int) -> None:
    service.bad = bad
    with pytest.raises(UnprocessableError) as caught:
        task.predict([[n] for n in range(3_000)])
    assert caught.value.problem is not None
    assert [fault.pointer for fault in caught.value.problem.errors] == [f"/queries/{bad}/vector"]
    assert f"/queries/{bad}/vector" in str(caught.value)


def test_a_query_that_cannot_be_sent_is_named_before_anything_is(task: Task, script: Script) -> None:
    with pytest.raises(InvalidArgumentError, match="query 1500"):
        task.predict([[0]] * 1_500 + ["no file"])
    assert paths(script) == []


def test_targets_go_with_their_queries(task: Task, script: Script) -> None:
    task.predict([[n] for n in range(1_500)], targets=range(1_500))
    for request in script.requests:
        if "targets" in (request.body or {}):
            assert request.body["targets"] == [query["vector"] for query in request.body["queries"]]
    with pytest.raises(InvalidArgumentError, match="3 targets for 1500 queries"):
        task.predict([[0]] * 1_500, targets=[1, 2, 3])


def test_without_a_task_the_support_goes_along(script: Script, service: QueryServer) -> None:
    support = {"a": [[1]], "b": [[2]]}
    with Client(script.url, max_retries=0) as client:
        answer = client.predict(None, support, [[n] for n in range(2_500)])
    assert [found.confidence for found in answer.predictions] == list(range(2_500))  # type: ignore[union-attr]
    bodies = [request.body for request in script.requests if request.path == "/v1/predict"]
    assert [body.get("learner") for body in bodies] == [None, "glyphs", "glyphs"]
    assert all(body["support"] == bodies[0]["support"] for body in bodies)


def test_asynchronously(script: Script, service: QueryServer) -> None:
    seen: list[int] = []

    async def note(done: int, total: int) -> None:
        seen.append(done)

    async def run() -> None:
        async with AsyncClient(script.url, max_retries=0) as client:
            made: AsyncTask = await client.tasks.create({"a": [[1]], "b": [[2]]})
            answer = await made.predict([[n] for n in range(5_000)], on_progress=note)
            assert [found.confidence for found in answer.predictions] == list(range(5_000))  # type: ignore[union-attr]
            service.bad = 4_321
            with pytest.raises(UnprocessableError, match="/queries/4321/vector"):
                await made.predict([[n] for n in range(5_000)])

    asyncio.run(run())
    assert seen[-1] == 5_000


@given(st.data())
def test_batches_hold_every_query_once_within_the_limits(data: Any) -> None:
    queries = data.draw(st.lists(st.lists(st.floats(-9, 9), min_size=1, max_size=30), max_size=60))
    with_targets = data.draw(st.booleans())
    batches = QueryBatches.of(
        "/v1/x", queries, {"top": 3}, targets=range(len(queries)) if with_targets else None
    )
    limits = Limits(**USUAL | {"queries": data.draw(st.integers(1, 20)), "json_bytes": 1_200})
    found = batches.split(limits)
    assert [position for batch in found for position in batch] == list(range(len(queries)))
    for batch in found:
        body = batches.request(batch).body
        assert isinstance(body, bytes)
        assert len(body) <= limits.json_bytes
        assert len(batch) <= limits.queries
        sent = json.loads(body)
        assert sent["top"] == 3
        assert sent["queries"] == [{"vector": queries[position]} for position in batch]
        assert sent.get("targets") == ([[float(position)] for position in batch] if with_targets else None)


@pytest.mark.parametrize("compress", [False, True])
def test_against_the_server(server: Server, compress: bool) -> None:
    with Client(server.url, compress=compress) as live:
        _check_order(live)


def _check_order(live: Client) -> None:
    made = live.tasks.create({"a": [[0.0, 1.0]], "b": [[1.0, 0.0]]}, learner="vectors")
    queries = [[0.0, 1.0] if n % 3 else [1.0, 0.0] for n in range(2_500)]
    answer = made.predict(queries)
    assert [found.label for found in answer.predictions] == ["a" if n % 3 else "b" for n in range(2_500)]  # type: ignore[union-attr]
    queries[2_100] = [1.0]
    with pytest.raises(UnprocessableError, match="/queries/2100"):
        made.predict(queries)


def test_streams_and_single_requests_against_the_server(live: Client) -> None:
    queries = [[float(n % 5)] * 8 for n in range(2_100)]
    stream = live.streams.get("blobs")
    one = {tuple(query): stream.predict([query]).predictions[0].label for query in queries[:5]}
    answer = stream.predict(queries)
    assert [found.label for found in answer.predictions] == [one[tuple(query)] for query in queries]
    support = {"a": [[0.0] * 8], "b": [[4.0] * 8]}
    once = live.predict(None, support, queries)
    assert [found.label for found in once.predictions[:5]] == ["a", "a", once.predictions[2].label, "b", "b"]  # type: ignore[union-attr]
    assert len(once.predictions) == 2_100
