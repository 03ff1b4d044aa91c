"""The life of a stream on each kind of database; and what is asked for at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.http.problems import ProblemError
from app.learners import repository as learners
from app.streams.service import number_cursor
from tests.app.streams.asked import vectors
from tests.workers.streams import TENANT, Place
from workers.jobs import JobFailedError

Run = Callable[[Callable[[Place], Awaitable[None]]], None]


@pytest.fixture
def run(database_url: str, empty_database: Path, tmp_path: Path) -> Run:
    async def tell(story: Callable[[Place], Awaitable[None]]) -> None:
        place = Place(tmp_path / "data", empty_database, url=database_url)
        try:
            await story(place)
        finally:
            await place.database.close()

    return lambda story: asyncio.run(tell(story))


def test_the_life_of_a_stream(run: Run) -> None:
    async def story(place: Place) -> None:
        for name in ("b", "a-c", "a1", "points"):
            await place.make(name)
        names = [stream.name for stream in (await place.streams.page(TENANT, None, 2)).items]
        assert names == ["a-c", "a1"]
        for name, labels in (("first", "ab"), ("second", "cd"), ("third", "ef")):
            await place.register(name, *labels)
        pages, cursor = [], None
        while cursor is not None or not pages:
            page = await place.streams.versions(TENANT, "points", number_cursor(cursor), 1)
            pages.append([version.number for version in page.items])
            cursor = page.next_cursor
        assert pages == [[3], [2], [1]]
        await place.streams.rollback(TENANT, "points", 2)
        assert [task.state for task in (await place.tasks()).values()] == ["ready", "ready", "rolled_back"]
        await place.forget("first")
        await place.work()
        listed = (await place.streams.versions(TENANT, "points", None, 9)).items
        assert [(version.number, version.parent, version.tasks) for version in listed] == [(4, 2, ["second"])]
        async with place.database.read() as session:
            assert not await learners.is_encoder_of_stream(session, TENANT, "glyphs")
        await place.streams.delete(TENANT, "points")
        assert await place.blob_names() == set()
        assert [change.detail[0] for change in place.heard] == ["5", "deleted"]

    run(story)


def test_a_name_is_registered_once_by_two_at_a_time(run: Run) -> None:
    async def story(place: Place) -> None:
        await place.make()
        dataset = await place.upload(vectors("a", "b"))
        asked = await asyncio.gather(
            *(place.ask("first", dataset=dataset) for _ in range(3)), return_exceptions=True
        )
        refused = [one.code for one in asked if isinstance(one, ProblemError)]
        assert refused == ["stream_task_exists"] * 2

    run(story)


def test_a_dataset_is_deleted_or_registered_and_never_both(run: Run) -> None:
    async def story(place: Place) -> None:
        await place.make(scenario="cl1")
        for round in range(2):
            dataset = await place.upload(vectors("a", "b"))
            asked, deleted = await asyncio.gather(
                place.ask(f"round-{round}", dataset=dataset),
                place.datasets.delete(TENANT, dataset),
                return_exceptions=True,
            )
            codes = [one.code for one in (asked, deleted) if isinstance(one, ProblemError)]
            assert codes in (["dataset_in_use"], ["unknown_dataset"]), (asked, deleted)

    run(story)


def test_a_stream_that_is_deleted_while_its_job_publishes_leaves_nothing(run: Run) -> None:
    """Whichever comes first, and neither waits for the other for ever."""

    async def story(place: Place) -> None:
        await place.make()
        await place.ask("first", "a", "b")
        job = await place.claim()
        outcome = await place.run(job)
        published, deleted = await asyncio.gather(
            place.publish(job, outcome), place.streams.delete(TENANT, "points"), return_exceptions=True
        )
        assert deleted is None
        assert published is None or isinstance(published, JobFailedError)
        assert (await place.streams.page(TENANT, None, 9)).items == []

    run(story)
