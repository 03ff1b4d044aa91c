"""Following a job by its event stream or by polling, across broken connections, to any end."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

import hyperserve as hs
from hyperserve.retries import RetryPolicy, WaitPolicy
from hyperserve.sync.jobs import Jobs
from hyperserve.sync.transport import Transport
from hyperserve.types import Job
from tests.hyperserve.scripted import JOB, Reply, Script, problem, scripted

RUNNING = JOB | {"progress": {"step": 1}}
FURTHER = JOB | {"progress": {"step": 2}}
DONE = JOB | {"state": "succeeded", "result": {"learner": "mine"}}
END = b"event: end\ndata: {}\n\n"
TRAINING = {
    "learner": {
        "name": "mine",
        "digest": None,
        "input": None,
        "default": False,
        "method": "hyperset",
        "status": "training",
        "traits": {},
        "ways": None,
        "shots": None,
        "metrics": {},
        "dataset": "ds_1",
        "job": "job_1",
    },
    "job": JOB,
}


def stream(*jobs: dict[str, Any], end: bytes = END, broken: bool = False) -> Reply:
    """Return a reply of events numbered by their steps; broken: the connection ends too early."""
    events = [
        f"id: {(job['progress'] or {}).get('step', 9)}\nevent: job\ndata: {json.dumps(job)}\n\n"
        for job in jobs
    ]
    said = b": heartbeat\n\n" + "".join(events).encode() + (b"" if broken else end)
    cut = {"Content-Length": str(len(said) + 1), "Connection": "close"} if broken else {}
    return Reply(body=said, headers={"Content-Type": "text/event-stream", **cut})


@contextmanager
def following(*replies: Reply, retries: int = 2, **policy: float) -> Iterator[tuple[Jobs, Script]]:
    quick = WaitPolicy(**{"poll_interval": 0.01, **policy})
    with scripted(*replies) as server, httpx.Client(base_url=server.url, timeout=5) as http:
        yield Jobs(Transport(http, RetryPolicy(retries, first_wait=0.01)), quick), server


def paths(server: Script) -> list[str]:
    return [request.path.removeprefix("/v1/jobs/job_1") for request in server.requests]


def test_a_job_is_looked_up_listed_and_cancelled() -> None:
    page = {"items": [JOB], "next_cursor": None}
    with following(Reply(body=page), Reply(body=JOB), Reply(202, JOB), Reply(409, problem(409))) as (
        jobs,
        server,
    ):
        (found,) = jobs.list(state="running", kind="train", limit=5)
        assert jobs.get(found) == jobs.cancel("job_1") == found
        with pytest.raises(hs.ConflictError):
            jobs.cancel(found)
    assert [(request.method, request.path) for request in server.requests] == [
        ("GET", "/v1/jobs?state=running&kind=train&limit=5"),
        ("GET", "/v1/jobs/job_1"),
        ("POST", "/v1/jobs/job_1/cancel"),
        ("POST", "/v1/jobs/job_1/cancel"),
    ]


def test_events_are_the_job_at_every_change() -> None:
    with following(stream(RUNNING, FURTHER, DONE)) as (jobs, server):
        assert [(job.state, job.progress) for job in jobs.events("job_1")] == [
            ("running", {"step": 1}),
            ("running", {"step": 2}),
            ("succeeded", None),
        ]
    assert server.requests[0].headers["accept"] == "text/event-stream"


def test_a_broken_stream_is_taken_up_where_it_broke() -> None:
    busy, gone = Reply(503, problem(503)), Reply(body=None)
    early = stream(FURTHER, end=b"")
    replies = [busy, stream(RUNNING, broken=True), gone, early, stream(DONE)]
    with following(*replies) as (jobs, server):
        assert [job.progress for job in jobs.events("job_1")] == [{"step": 1}, {"step": 2}, None]
    assert [request.headers.get("last-event-id") for request in server.requests] == [
        None,
        None,
        "1",
        "1",
        "2",
    ]


def test_a_stream_that_stays_broken_is_an_error() -> None:
    with following(stream(RUNNING, broken=True), Reply(body=None)) as (jobs, server):
        events = jobs.events("job_1")
        assert next(events).progress == {"step": 1}
        with pytest.raises(hs.ConnectionFailedError):
            next(events)
    assert len(server.requests) == 3
    with following(Reply(404, problem(404))) as (jobs, _), pytest.raises(hs.NotFoundError):
        next(jobs.events("job_1"))


def test_wait_tells_of_every_change_once_and_returns_the_job() -> None:
    told: list[Job] = []
    with following(Reply(body=RUNNING), stream(RUNNING, FURTHER, FURTHER, DONE)) as (jobs, server):
        done = jobs.wait("job_1", on_progress=told.append)
    assert done.result == {"learner": "mine"}
    assert [job.progress for job in told] == [{"step": 1}, {"step": 2}, None]
    assert paths(server) == ["", "/events"]


def test_a_job_that_has_finished_is_not_waited_for() -> None:
    with following(Reply(body=DONE)) as (jobs, server):
        assert jobs.wait(Job.model_validate(JOB)).state == "succeeded"
    assert paths(server) == [""]


@pytest.mark.parametrize(
    "no_stream",
    [
        Reply(404, problem(404)),
        Reply(406, problem(406)),
        Reply(body=JOB),
        Reply(body=None),
        stream(RUNNING),
        stream(end=b"id: 1\nevent: job\ndata: {}\n\n"),
    ],
    ids=["none", "refused", "no events", "broken", "ended early", "not a job"],
)
def test_without_a_stream_the_job_is_asked_for(no_stream: Reply) -> None:
    replies = [Reply(body=JOB), no_stream, Reply(body=RUNNING), Reply(body=RUNNING), Reply(body=DONE)]
    told: list[Job] = []
    with following(*replies, retries=0) as (jobs, server):
        assert jobs.wait("job_1", on_progress=told.append).state == "succeeded"
    assert paths(server) == ["", "/events", "", "", ""]
    assert [job.progress for job in told] == [None, {"step": 1}, None]


def test_a_server_that_restarts_is_waited_for() -> None:
    away = [Reply(body=None), Reply(503, problem(503))]
    with following(Reply(body=JOB), *away, *away, Reply(body=DONE), retries=0) as (jobs, _):
        assert jobs.wait("job_1").state == "succeeded"
    with following(Reply(body=JOB), Reply(body=None), retries=0, max_outage=0.1) as (jobs, _):
        started = time.monotonic()
        with pytest.raises(hs.ConnectionFailedError):
            jobs.wait("job_1")
        assert time.monotonic() - started >= 0.1


def test_a_server_that_never_knew_the_job_is_not_waited_for() -> None:
    for reply, error in (
        (Reply(404, problem(404)), hs.NotFoundError),
        (Reply(body=None), hs.ConnectionFailedError),
    ):
        with following(reply, retries=0) as (jobs, server), pytest.raises(error):
            jobs.wait("job_1")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("state", "error", "code", "message"),
    [
        (
            "failed",
            {"code": "loss_diverged", "detail": "The loss is NaN at step 3."},
            "loss_diverged",
            r"job job_1 \(train\) failed: The loss is NaN at step 3. \[loss_diverged\]",
        ),
        ("dead", None, "dead", "dead: the server gave no further details"),
        ("cancelled", {}, "cancelled", "cancelled: the server gave no further details"),
    ],
)
def test_a_job_that_did_not_succeed_is_an_error(
    state: str, error: dict[str, str] | None, code: str, message: str
) -> None:
    ended = JOB | {"state": state, "error": error}
    told: list[Job] = []
    with (
        following(Reply(body=JOB), stream(ended)) as (jobs, _),
        pytest.raises(hs.JobFailedError, match=message) as raised,
    ):
        jobs.wait("job_1", on_progress=told.append)
    assert (raised.value.code, raised.value.job.state) == (code, state)
    assert told[-1] == raised.value.job
    assert str(copy.copy(raised.value)) == str(raised.value)


@pytest.mark.parametrize("timeout", [0, 0.2])
def test_waiting_has_an_end(timeout: float) -> None:
    """Near the deadline the client polls, as a stream may stay silent for longer."""
    with following(Reply(body=JOB)) as (jobs, server):
        started = time.monotonic()
        with pytest.raises(hs.WaitTimeoutError, match=f"not finished after {timeout:g} s") as raised:
            jobs.wait("job_1", timeout=timeout)
        assert timeout <= time.monotonic() - started < timeout + 0.5
    assert isinstance(raised.value, TimeoutError)
    assert "/events" not in paths(server)


def test_a_stream_is_left_when_the_end_is_near() -> None:
    with following(Reply(body=JOB), stream(RUNNING, FURTHER), Reply(body=DONE), poll_before_deadline=0.3) as (
        jobs,
        server,
    ):
        server.replies[1] = Reply(
            server.replies[1].status, server.replies[1].body, server.replies[1].headers, 0.2
        )
        assert jobs.wait("job_1", timeout=0.45).state == "succeeded"
    assert paths(server) == ["", "/events", ""]


def test_a_listener_that_fails_ends_the_wait() -> None:
    def refuse(job: Job) -> None:
        raise KeyError(job.id)

    with following(Reply(body=JOB)) as (jobs, _), pytest.raises(KeyError):
        jobs.wait("job_1", on_progress=refuse)


def test_a_learner_is_trained_by_a_job() -> None:
    replies = Reply(202, TRAINING), Reply(202, TRAINING), Reply(204, b"")
    with scripted(*replies) as server, hs.Client(server.url) as client:
        made = client.learners.create("mine", dataset="ds_1")
        assert (made.learner.status, made.job.id) == ("training", "job_1")
        options = {
            "method": "protonet",
            "encoder": "identity",
            "ways": (5, 20),
            "shots": 1,
            "steps": 10,
            "seed": 0,
        }
        client.learners.create("mine", dataset="ds_1", **options)
        client.learners.delete("mine")
        client.learners.delete("mine", force=True)
    first, second, *deleted = server.requests
    assert first.body == {"name": "mine", "dataset": "ds_1"}
    assert first.headers["idempotency-key"]
    assert second.body == {
        "name": "mine",
        "dataset": "ds_1",
        "method": "protonet",
        "encoder": "identity",
        "ways": {"min": 5, "max": 20},
        "shots": {"min": 1, "max": 1},
        "steps": 10,
        "seed": 0,
    }
    assert [request.path for request in deleted] == ["/v1/learners/mine", "/v1/learners/mine?force=true"]
