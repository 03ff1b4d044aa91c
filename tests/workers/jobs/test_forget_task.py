"""The job that forgets a stream task: what it removes, what it leaves, and which blobs remain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from app.db.tables import ChangeRow, StreamTaskRow
from app.http.problems import ProblemError
from tests.workers.stream_bench import ANALYTIC, HYPERNETWORK, StreamBench
from workers.jobs import JobError


async def three(bench: StreamBench, **how: Any) -> None:
    await bench.create(**how)
    for name, labels in (("first", "ab"), ("second", "cd"), ("third", "ef")):
        await bench.register(name, *labels)


async def forget(bench: StreamBench, name: str) -> None:
    await bench.forget(name)
    await bench.work()


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(ANALYTIC, id="analytic"),
        pytest.param(HYPERNETWORK, id="hypernetwork", marks=pytest.mark.slow),
    ],
)
def test_it_is_taken_out_and_its_versions_go(bench: StreamBench, method: dict[str, Any]) -> None:
    async def story() -> None:
        await three(bench, **method)
        stored = [await bench.stored(number) for number in (1, 2, 3)]
        old = [version for version in stored if version is not None]
        work = await bench.forget("second")
        assert work.task.state == "forgetting"
        assert (await bench.tasks())["second"].state == "forgetting"
        await bench.work()
        stream, _ = await bench.streams.get("points")
        assert (stream.version, stream.tasks) == (4, 2)
        assert (await bench.version()).tasks == ("first", "third")
        listed = await bench.versions()
        assert [(version.number, version.origin, version.task) for version in listed] == [
            (4, "forgotten", "second"),
            (1, "registered", "first"),
        ]
        task = (await bench.tasks())["second"]
        assert (task.state, task.held_out, task.dataset, task.accuracy_now) == ("forgotten", 0, None, None)
        assert task.forgotten_at is not None
        left = [await bench.stored(number) for number in (1, 4)]
        named = {blob for version in left if version is not None for blob in version.blobs}
        assert await bench.blob_names() == named | await bench.held_out_blobs()
        second = old[1].parts[1].blob
        assert second not in await bench.blob_names()
        assert await last_change(bench) == ("points", ["5", old[1].id, old[2].id])

    asyncio.run(story())


async def last_change(bench: StreamBench) -> tuple[str, list[str]]:
    async with bench.database.read() as session:
        query = select(ChangeRow).where(ChangeRow.kind == "stream").order_by(ChangeRow.id.desc())
        row = (await session.scalars(query)).first()
    assert row is not None
    revision, *purged = row.detail
    return row.subject, [revision, *sorted(purged)]


def test_the_others_answer_as_before(bench: StreamBench) -> None:
    async def story() -> None:
        await three(bench)
        before = await bench.tasks()
        await forget(bench, "second")
        after = await bench.tasks()
        for name in ("first", "third"):
            assert after[name].accuracy_now == before[name].accuracy_now == 1
            assert after[name].accuracy_registered == before[name].accuracy_registered

    asyncio.run(story())


def test_the_only_one_leaves_a_stream_without_a_version(bench: StreamBench) -> None:
    async def story() -> None:
        await bench.create()
        await bench.register("first", "a", "b")
        await forget(bench, "first")
        stream, _ = await bench.streams.get("points")
        assert (stream.version, stream.tasks) == (None, 0)
        assert await bench.blob_names() == set()
        await bench.register("second", "a", "b")
        assert (await bench.streams.get("points"))[0].version == 2

    asyncio.run(story())


def test_one_that_was_rolled_back_goes_from_the_versions_that_hold_it(bench: StreamBench) -> None:
    async def story() -> None:
        await three(bench)
        await bench.streams.rollback("points", 1)
        await forget(bench, "second")
        stream, _ = await bench.streams.get("points")
        assert stream.version == 1, "what answers never held it"
        listed = await bench.versions()
        assert [version.number for version in listed] == [1]
        assert (await bench.tasks())["third"].state == "rolled_back"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("name", "code"), [("nope", "stream_task_not_found"), ("first", "stream_task_forgotten")]
)
def test_what_is_unknown_or_forgotten_is_not_forgotten_again(
    bench: StreamBench, name: str, code: str
) -> None:
    async def story() -> None:
        await bench.create()
        await bench.register("first", "a", "b")
        await bench.register("second", "c", "d")
        await forget(bench, "first")
        await bench.forget(name)

    with pytest.raises(ProblemError) as caught:
        asyncio.run(story())
    assert caught.value.code == code


def test_its_name_is_not_used_again_but_its_labels_may_be(bench: StreamBench) -> None:
    async def story() -> None:
        await three(bench)
        await bench.forget("second")
        # Requested while the other job still waits, which comes first.
        await bench.request("fourth", "c", "d")
        await bench.work()
        with pytest.raises(ProblemError) as caught:
            await bench.request("second", "x", "y")
        assert caught.value.code == "stream_task_exists"
        await bench.work()
        assert (await bench.version()).labels["fourth"] == ("c", "d")

    asyncio.run(story())


def test_while_it_is_being_forgotten_nothing_else_is_done_to_it(bench: StreamBench) -> None:
    async def story() -> None:
        await bench.create()
        await bench.register("first", "a", "b")
        await bench.forget("first")
        for again in (bench.forget("first"), bench.streams.rollback("points", 1)):
            with pytest.raises(ProblemError) as caught:
                await again
            assert (caught.value.code, caught.value.status) == ("stream_busy", 409)

    asyncio.run(story())


def test_a_version_that_is_damaged_is_not_taken_for_another(bench: StreamBench) -> None:
    async def story() -> None:
        await three(bench)
        for path in (bench.folder / "blobs" / "streams").rglob("*"):
            if path.is_file():
                path.write_bytes(b"x" + path.read_bytes()[1:])
        await forget(bench, "second")

    with pytest.raises(JobError, match="damaged") as caught:
        asyncio.run(story())
    assert caught.value.code == "forgetting_refused"

    async def after() -> list[str]:
        async with bench.database.read() as session:
            return list(await session.scalars(select(StreamTaskRow.state)))

    assert set(asyncio.run(after())) == {"ready"}
