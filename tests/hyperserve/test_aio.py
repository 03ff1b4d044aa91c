"""The asynchronous client: the same methods, one source, and an event loop that is never blocked."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import hyperserve as hs
from hyperserve import aio, sync
from hyperserve.aio import jobs as aio_jobs
from hyperserve.aio import pages as aio_pages
from hyperserve.aio import resources as aio_resources
from hyperserve.types import Job
from tests.hyperserve.scripted import JOB, PREDICTIONS, TASK, Reply, problem, scripted
from tests.hyperserve.test_jobs import DONE, FURTHER, RUNNING, stream
from tests.hyperserve.test_uploads import DATASET
from tools import make_sync

PARTS = [
    (hs.AsyncClient, hs.Client),
    (hs.AsyncTask, hs.Task),
    (hs.AsyncPrediction, hs.Prediction),
    (aio_resources.AsyncTasks, sync.resources.Tasks),
    (aio_resources.AsyncLearners, sync.resources.Learners),
    (aio_resources.AsyncDatasets, sync.resources.Datasets),
    (aio_jobs.AsyncJobs, sync.jobs.Jobs),
    (aio_pages.AsyncPages, sync.pages.Pages),
]


@pytest.mark.parametrize("name", make_sync.modules())
def test_the_synchronous_client_is_what_the_asynchronous_says(name: str) -> None:
    made = Path(sync.__file__).with_name(name).read_text(encoding="utf-8")
    assert made == make_sync.synchronous(name), "run `python -m tools.make_sync`"


def test_nothing_synchronous_is_left_behind() -> None:
    here, there = (
        {path.name for path in Path(package.__file__).parent.glob("*.py")} for package in (aio, sync)
    )
    assert here == there


@pytest.mark.parametrize(("one", "other"), PARTS, ids=lambda part: part.__name__)
def test_both_have_the_same_surface(one: type, other: type) -> None:
    """Names and arguments are equal; only awaiting differs."""

    def surface(part: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(part, inspect.isfunction)
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in methods
            if not name.startswith("_")
        }

    assert surface(one) == surface(other)


def test_a_task_from_create_to_feedback() -> None:
    stored = PREDICTIONS | {"predictions": [PREDICTIONS["predictions"][0] | {"id": "pred_1"}]}  # type: ignore[index]
    replies = [Reply(201, TASK), Reply(body=stored), Reply(201, TASK | {"version": 2})]

    async def use(client: hs.AsyncClient) -> int:
        task = await client.tasks.create({"cat": [[1]], "dog": [[1]]})
        answer = await task.predict([[1]], store=True)
        return (await answer.predictions[0].feedback("dog")).version

    assert run(use, *replies) == 2


def test_lists_are_looped_over_page_by_page() -> None:
    pages = [Reply(body={"items": [TASK], "next_cursor": cursor}) for cursor in ("c", None)]

    async def use(client: hs.AsyncClient) -> list[str]:
        return [task.id async for task in client.tasks.list()] + [
            task.id for task in await client.tasks.list(limit=1).all()
        ]

    assert run(use, *pages) == ["task_1"] * 3


def test_waits_do_not_hold_up_the_loop() -> None:
    busy = Reply(503, problem(503), {"Retry-After": "1"})

    async def use(client: hs.AsyncClient) -> int:
        ticks = 0
        waiting = asyncio.create_task(client.ready()), asyncio.create_task(client.limits())
        while not all(task.done() for task in waiting):
            await asyncio.sleep(0.01)
            ticks += 1
        with pytest.raises(hs.MalformedAnswerError):
            await waiting[1]
        return ticks

    assert run(use, busy, busy, Reply()) > 50


def test_a_file_is_streamed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,2\n" * 200_000)
    with scripted(Reply(body=None), Reply(201, DATASET)) as server:

        async def use() -> str:
            async with hs.AsyncClient(server.url) as client:
                return (await client.datasets.upload(tmp_path / "a.csv")).id

        assert asyncio.run(use()) == "ds_1"
    assert [request.body == b"1,2\n" * 200_000 for request in server.requests] == [True, True]


@pytest.mark.parametrize("awaited", [True, False])
def test_a_job_is_waited_for(awaited: bool) -> None:
    told: list[object] = []

    async def listen(job: Job) -> None:
        await asyncio.sleep(0)
        told.append(job.progress)

    async def use(client: hs.AsyncClient) -> str:
        done = await client.jobs.wait(
            "job_1", on_progress=listen if awaited else lambda job: told.append(job.progress)
        )
        return done.state

    replies = Reply(body=JOB), stream(RUNNING, broken=True), stream(FURTHER, DONE)
    assert run(use, *replies) == "succeeded"
    assert told == [None, {"step": 1}, {"step": 2}, None]


def test_a_wait_can_be_cancelled() -> None:
    slow = Reply(body=JOB, delay=0.1)

    async def use(client: hs.AsyncClient) -> float:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.jobs.wait("job_1")
        return time.monotonic() - started

    assert run(use, slow, Reply(404, problem(404)), slow) < 1


def run(use: Callable[[hs.AsyncClient], Awaitable[object]], *replies: Reply) -> object:
    async def connected(url: str) -> object:
        async with hs.AsyncClient(url) as client:
            return await use(client)

    with scripted(*replies) as server:
        return asyncio.run(connected(server.url))
