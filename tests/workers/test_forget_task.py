"""The job that forgets: what it takes out, what it leaves, and what is left of it in the store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from app.db.tables import ChangeRow, StreamTaskRow
from app.http.problems import ProblemError
from tests.workers.streams import ANALYTIC, HYPERNETWORK, TENANT, Place
from workers.jobs import JobFailedError


async def three(place: Place, **how: Any) -> None:
    await place.make(**how)
    for name, labels in (("first", "ab"), ("second", "cd"), ("third", "ef")):
        await place.register(name, *labels)


async def forget(place: Place, name: str) -> None:
    await place.forget(name)
    await place.work()


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(ANALYTIC, id="analytic"),
        pytest.param(HYPERNETWORK, id="hypernetwork", marks=pytest.mark.slow),
    ],
)
def test_it_is_taken_out_and_its_versions_go(place: Place, method: dict[str, Any]) -> None:
    async def story() -> None:
        await three(place, **method)
        stored = [await place.stored(number) for number in (1, 2, 3)]
        old = [version for version in stored if version is not None]
        work = await place.forget("second")
        assert work.task.state == "forgetting"
        assert (await place.tasks())["second"].state == "forgetting"
        await place.work()
        stream, _ = await place.streams.get(TENANT, "points")
        assert (stream.version, stream.tasks) == (4, 2)
        assert (await place.version()).tasks == ("first", "third")
        listed = (await place.streams.versions(TENANT, "points", None, 9)).items
        assert [(version.number, version.origin, version.task) for version in listed] == [
            (4, "forgotten", "second"),
            (1, "registered", "first"),
        ]
        task = (await place.tasks())["second"]
        assert (task.state, task.held_out, task.dataset, task.accuracy_now) == ("forgotten", 0, None, None)
        assert task.forgotten_at is not None
        kept = [await place.stored(number) for number in (1, 4)]
        named = {blob for version in kept if version is not None for blob in version.blobs}
        assert await place.blob_names() == named | await place.held_out_blobs()
        second = old[1].parts[1].blob
        assert second not in await place.blob_names()
        news = await last_news(place)
        assert news == ("points", ["5", old[1].id, old[2].id])

    asyncio.run(story())


async def last_news(place: Place) -> tuple[str, list[str]]:
    async with place.database.read() as session:
        query = select(ChangeRow).where(ChangeRow.kind == "stream").order_by(ChangeRow.id.desc())
        row = (await session.scalars(query)).first()
    assert row is not None
    head, *purged = row.detail
    return row.subject, [head, *sorted(purged)]


def test_the_others_answer_as_before(place: Place) -> None:
    async def story() -> None:
        await three(place)
        before = await place.tasks()
        await forget(place, "second")
        after = await place.tasks()
        for name in ("first", "third"):
            assert after[name].accuracy_now == before[name].accuracy_now == 1
            assert after[name].accuracy_registered == before[name].accuracy_registered

    asyncio.run(story())


def test_the_only_one_leaves_a_stream_without_a_version(place: Place) -> None:
    async def story() -> None:
        await place.make()
        await place.register("first", "a", "b")
        await forget(place, "first")
        stream, _ = await place.streams.get(TENANT, "points")
        assert (stream.version, stream.tasks) == (None, 0)
        assert await place.blob_names() == set()
        await place.register("second", "a", "b")
        assert (await place.streams.get(TENANT, "points"))[0].version == 2

    asyncio.run(story())


def test_one_that_was_rolled_back_goes_from_the_versions_that_hold_it(place: Place) -> None:
    async def story() -> None:
        await three(place)
        await place.streams.rollback(TENANT, "points", 1)
        await forget(place, "second")
        stream, _ = await place.streams.get(TENANT, "points")
        assert stream.version == 1, "what answers never held it"
        listed = (await place.streams.versions(TENANT, "points", None, 9)).items
        assert [version.number for version in listed] == [1]
        assert (await place.tasks())["third"].state == "rolled_back"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("name", "code"), [("nope", "stream_task_not_found"), ("first", "stream_task_forgotten")]
)
def test_what_is_unknown_or_forgotten_is_not_forgotten_again(place: Place, name: str, code: str) -> None:
    async def story() -> None:
        await place.make()
        await place.register("first", "a", "b")
        await place.register("second", "c", "d")
        await forget(place, "first")
        await place.forget(name)

    with pytest.raises(ProblemError) as caught:
        asyncio.run(story())
    assert caught.value.code == code


def test_its_name_is_not_used_again_but_its_labels_may_be(place: Place) -> None:
    async def story() -> None:
        await three(place)
        await place.forget("second")
        # Asked while the other still waits, which comes first.
        await place.ask("fourth", "c", "d")
        await place.work()
        with pytest.raises(ProblemError) as caught:
            await place.ask("second", "x", "y")
        assert caught.value.code == "stream_task_exists"
        await place.work()
        assert (await place.version()).labels["fourth"] == ("c", "d")

    asyncio.run(story())


def test_while_it_is_being_forgotten_nothing_else_is_done_to_it(place: Place) -> None:
    async def story() -> None:
        await place.make()
        await place.register("first", "a", "b")
        await place.forget("first")
        for again in (place.forget("first"), place.streams.rollback(TENANT, "points", 1)):
            with pytest.raises(ProblemError) as caught:
                await again
            assert (caught.value.code, caught.value.status) == ("stream_busy", 409)

    asyncio.run(story())


def test_a_version_that_is_damaged_is_not_taken_for_another(place: Place) -> None:
    async def story() -> None:
        await three(place)
        for path in (place.folder / "blobs" / "streams").rglob("*"):
            if path.is_file():
                path.write_bytes(b"x" + path.read_bytes()[1:])
        await forget(place, "second")

    with pytest.raises(JobFailedError, match="damaged") as caught:
        asyncio.run(story())
    assert caught.value.code == "forgetting_refused"

    async def after() -> list[str]:
        async with place.database.read() as session:
            return list(await session.scalars(select(StreamTaskRow.state)))

    assert set(asyncio.run(after())) == {"ready"}
