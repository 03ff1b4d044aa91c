"""/v1/jobs. The tests are the worker: they claim, renew and finish what they have queued."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from app.db.database import Database
from app.db.tenancy import TenantSession
from app.http.dependencies import DEFAULT_TENANT
from app.jobs import repository
from hyperserve.server_sent_events import Event, EventParser
from tests.app.server import Server
from tests.app.stores import store_of

T = TypeVar("T")
Write = Callable[..., T]


@pytest.fixture
def write(server: Server) -> Write[Any]:
    """Runs a transaction in the server's database, from another process than the server's."""

    async def transaction(work: Callable[[TenantSession], Awaitable[T]], tenant: str) -> T:
        database = Database(f"sqlite+aiosqlite:///{server.data_dir / 'hyperserve.db'}")
        try:
            async with store_of(database, tenant).write() as session:
                return await work(session)
        finally:
            await database.close()

    return lambda work, tenant=DEFAULT_TENANT: asyncio.run(transaction(work, tenant))


@pytest.fixture
def job(write: Write[str]) -> str:
    return write(lambda session: _enqueue(session, "api_test"))


async def _enqueue(session: TenantSession, kind: str) -> str:
    return (await repository.enqueue(session, kind, {"secret": 1}, subject="learners/x")).id


async def _claim(session: TenantSession) -> int:
    job = await repository.claim(session, "w", 60_000, ["api_test"])
    assert job is not None
    return job.lease_token


def events(response: httpx.Response) -> Iterator[Event]:
    parser = EventParser()
    for chunk in response.iter_raw():
        yield from parser.feed(chunk)


def test_a_job_as_clients_see_it(client: httpx.Client, job: str) -> None:
    answer = client.get(f"/v1/jobs/{job}")
    assert answer.status_code == 200
    document = answer.json()
    assert document.pop("created_at")
    assert document == {
        "id": job,
        "kind": "api_test",
        "subject": "learners/x",
        "state": "queued",
        "attempt": 0,
        "max_attempts": 3,
        "cancel_requested": False,
        "progress": None,
        "result": None,
        "error": None,
        "started_at": None,
        "finished_at": None,
    }
    assert client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"


def test_pages_by_state_and_kind(client: httpx.Client, write: Write[str]) -> None:
    ids = [write(lambda session: _enqueue(session, "paged")) for _ in range(3)]
    page = client.get("/v1/jobs?kind=paged&limit=2").json()
    assert [item["id"] for item in page["items"]] == ids[:0:-1]
    rest = client.get("/v1/jobs", params={"kind": "paged", "cursor": page["next_cursor"]}).json()
    assert ([item["id"] for item in rest["items"]], rest["next_cursor"]) == ([ids[0]], None)
    client.post(f"/v1/jobs/{ids[0]}/cancel")
    listed = client.get("/v1/jobs?kind=paged&state=cancelled").json()["items"]
    assert [item["id"] for item in listed] == [ids[0]]
    for id in ids[1:]:
        client.post(f"/v1/jobs/{id}/cancel")


@pytest.mark.parametrize(
    ("query", "code", "pointer"),
    [
        ("?limit=0", "out_of_range", "/limit"),
        ("?limit=201", "out_of_range", "/limit"),
        ("?cursor=x", "bad_cursor", "/cursor"),
        ("?state=asleep", "bad_format", "/state"),
        ("?kind=A%20B", "bad_format", "/kind"),
        ("?sort=up", "unknown_field", "/sort"),
        ("?kind=a&kind=b", "given_twice", "/kind"),
    ],
)
def test_bad_options(client: httpx.Client, query: str, code: str, pointer: str) -> None:
    answer = client.get(f"/v1/jobs{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")])
def test_unknown_jobs_and_those_of_others(
    client: httpx.Client, write: Write[str], job: str, method: str, suffix: str
) -> None:
    foreign = write(lambda session: _enqueue(session, "foreign"), "somebody else")
    for id in ("job_never", foreign, "x" * 300):
        answer = client.request(method, f"/v1/jobs/{id}{suffix}")
        assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
    answer = client.request(method, f"/v1/jobs/{job}{suffix}?x=1")
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")
    client.post(f"/v1/jobs/{job}/cancel")


def test_cancel(client: httpx.Client, write: Write[int], job: str) -> None:
    """A running job is asked to end, as often as one likes; one that has ended is not."""
    token = write(_claim)
    for _ in range(2):
        answer = client.post(f"/v1/jobs/{job}/cancel")
        assert answer.status_code == 202
        assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("running", True)
    write(lambda session: repository.finish(session, job, token, "cancelled"))
    again = client.post(f"/v1/jobs/{job}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "job_finished")


def test_stream(client: httpx.Client, write: Write[Any], job: str) -> None:
    """Every change with its number, then the end; whoever comes back is told only what is new."""
    seen: list[Event] = []
    times: list[float] = []

    def follow() -> None:
        with client.stream("GET", f"/v1/jobs/{job}/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            for event in events(response):
                seen.append(event)
                times.append(time.monotonic())

    def wait_for(count: int) -> None:
        started = time.monotonic()
        while len(seen) < count:
            assert time.monotonic() - started < 10, seen
            time.sleep(0.02)

    thread = threading.Thread(target=follow)
    thread.start()
    wait_for(1)
    token = write(_claim)
    wait_for(2)
    write(lambda session: repository.renew(session, job, token, 60_000, {"step": 3}))
    wait_for(3)
    finished = time.monotonic()
    write(lambda session: repository.finish(session, job, token, "succeeded", {"name": "é\u2028"}))
    thread.join(10)
    assert [event.name for event in seen] == ["job", "job", "job", "job", "end"]
    assert [event.id for event in seen[:4]] == ["1", "2", "3", "4"]
    states = [json.loads(event.data) for event in seen]
    assert [state["state"] for state in states] == ["queued", "running", "running", "succeeded", "succeeded"]
    assert states[2]["progress"] == {"step": 3}
    assert states[3]["result"] == {"name": "é\u2028"}
    assert times[3] - finished < 3
    for last, names in ((3, ["job", "end"]), (4, ["end"]), (99, ["end"])):
        headers = {"Last-Event-ID": str(last)}
        with client.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as response:
            assert [event.name for event in events(response)] == names


def test_bad_last_event_id(client: httpx.Client, job: str) -> None:
    for bad in ("x", "-1", "99999999999999999999999"):
        answer = client.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": bad})
        assert answer.status_code == 422
    client.post(f"/v1/jobs/{job}/cancel")


def test_an_empty_last_event_id_is_none(client: httpx.Client, job: str) -> None:
    client.post(f"/v1/jobs/{job}/cancel")
    with client.stream("GET", f"/v1/jobs/{job}/events", headers={"Last-Event-ID": ""}) as response:
        assert response.status_code == 200, response.read()
        assert [event.name for event in events(response)] == ["job", "end"]


def test_streams_end_with_their_server(own_server: Server) -> None:
    """Without `end`: clients come back."""
    own_server.start()

    async def enqueue() -> str:
        database = Database(f"sqlite+aiosqlite:///{own_server.data_dir / 'hyperserve.db'}")
        try:
            async with store_of(database, DEFAULT_TENANT).write() as session:
                return await _enqueue(session, "api_test")
        finally:
            await database.close()

    id = asyncio.run(enqueue())
    with httpx.stream("GET", f"{own_server.url}/v1/jobs/{id}/events", timeout=10) as response:
        stream = events(response)
        assert next(stream).name == "job"
        assert own_server.stop() < 5
        assert list(stream) == []
