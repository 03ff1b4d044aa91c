"""The life of a stream on each kind of database, and requests at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.http.fields import PageOptions
from app.http.problems import ProblemError
from app.learners import repository as learners
from tests.app.streams.stream_requests import vectors
from tests.workers.stream_bench import StreamBench
from workers.jobs import JobError

Run = Callable[[Callable[[StreamBench], Awaitable[None]]], None]


@pytest.fixture
def run(database_url: str, empty_database: Path, tmp_path: Path) -> Run:
    async def tell(story: Callable[[StreamBench], Awaitable[None]]) -> None:
        bench = StreamBench(tmp_path / "data", empty_database, url=database_url)
        try:
            await story(bench)
        finally:
            await bench.database.close()

    return lambda story: asyncio.run(tell(story))


def test_the_life_of_a_stream(run: Run) -> None:
    async def story(bench: StreamBench) -> None:
        for name in ("b", "a-c", "a1", "points"):
            await bench.create(name)
        names = [stream.name for stream in (await bench.streams.page(PageOptions(limit=2))).items]
        assert names == ["a-c", "a1"]
        for name, labels in (("first", "ab"), ("second", "cd"), ("third", "ef")):
            await bench.register(name, *labels)
        pages, cursor = [], None
        while cursor is not None or not pages:
            page = await bench.streams.versions("points", PageOptions(limit=1, cursor=cursor))
            pages.append([version.number for version in page.items])
            cursor = page.next_cursor
        assert pages == [[3], [2], [1]]
        await bench.streams.rollback("points", 2)
        assert [task.state for task in (await bench.tasks()).values()] == ["ready", "ready", "rolled_back"]
        await bench.forget("first")
        await bench.work()
        listed = await bench.versions()
        assert [(version.number, version.parent, version.tasks) for version in listed] == [(4, 2, ["second"])]
        async with bench.store.read() as session:
            assert not await learners.is_encoder_of_stream(session, "glyphs")
        await bench.streams.delete("points")
        assert await bench.blob_names() == set()
        assert [change.detail[0] for change in bench.applied] == ["5", "deleted"]

    run(story)


def test_a_name_is_registered_once_by_two_at_a_time(run: Run) -> None:
    async def story(bench: StreamBench) -> None:
        await bench.create()
        dataset = await bench.upload(vectors("a", "b"))
        results = await asyncio.gather(
            *(bench.request("first", dataset=dataset) for _ in range(3)), return_exceptions=True
        )
        refused = [one.code for one in results if isinstance(one, ProblemError)]
        assert refused == ["stream_task_exists"] * 2

    run(story)


def test_a_dataset_is_deleted_or_registered_and_never_both(run: Run) -> None:
    async def story(bench: StreamBench) -> None:
        await bench.create(scenario="cl1")
        for round in range(2):
            dataset = await bench.upload(vectors("a", "b"))
            requested, deleted = await asyncio.gather(
                bench.request(f"round-{round}", dataset=dataset),
                bench.datasets.delete(dataset),
                return_exceptions=True,
            )
            codes = [one.code for one in (requested, deleted) if isinstance(one, ProblemError)]
            assert codes in (["dataset_in_use"], ["unknown_dataset"]), (requested, deleted)

    run(story)


def test_a_stream_that_is_deleted_while_its_job_publishes_leaves_nothing(run: Run) -> None:
    """Whichever comes first, and neither waits for the other for ever."""

    async def story(bench: StreamBench) -> None:
        await bench.create()
        await bench.request("first", "a", "b")
        job = await bench.claim()
        outcome = await bench.run(job)
        published, deleted = await asyncio.gather(
            bench.publish(job, outcome), bench.streams.delete("points"), return_exceptions=True
        )
        assert deleted is None
        assert published is None or isinstance(published, JobError)
        assert (await bench.streams.page(PageOptions())).items == []

    run(story)
