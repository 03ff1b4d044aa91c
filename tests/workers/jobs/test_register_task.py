"""The registration job, run in this process: what it publishes, and how it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.db.invalidation_log import Change
from app.db.tables import ChangeRow, StreamTaskRow
from app.streams import repository
from models.continual.held_out import TaskMeasurement, has_degraded
from models.continual.stream_config import StreamConfig, build
from models.stream_protocol import StreamLearner, StreamVersion
from tests.app.learner import save_learner
from tests.app.streams.stream_requests import vectors
from tests.models.data.archives import folders, zipped
from tests.workers.stream_bench import ANALYTIC, HYPERNETWORK, TENANT, StreamBench, queries
from workers.jobs import JobError


async def learner(bench: StreamBench, stream: str = "points") -> StreamLearner:
    described = (await bench.streams.get(stream))[0].model_dump(include=set(StreamConfig.model_fields))
    return build(StreamConfig.model_validate(described)).eval()


def right(learner: StreamLearner, version: StreamVersion, task: str) -> float:
    x, y = queries(*version.labels[task])
    answer = learner.predict(learner.weights(version, task), learner.embed(x)[None])
    return float((answer.probabilities[0].argmax(1) == y).float().mean())


@pytest.mark.parametrize("method", [ANALYTIC, HYPERNETWORK], ids=["analytic", "hypernetwork"])
def test_it_makes_versions_that_answer(bench: StreamBench, method: dict[str, Any]) -> None:
    async def story() -> None:
        await bench.create(**method)
        await bench.request("first", "a", "b")
        job = await bench.claim()
        outcome = await bench.run(job)
        assert await bench.stored() is None, "nothing is published before the job is"
        await bench.publish(job, outcome)
        await bench.register("second", "c", "d")
        stream, _ = await bench.streams.get("points")
        assert (stream.version, stream.tasks) == (2, 2)
        network, version = await learner(bench), await bench.version()
        assert version.tasks == ("first", "second")
        assert min(right(network, version, task) for task in version.tasks) > 0.9
        assert right(network, await bench.version(1), "first") > 0.9, "older versions stay"
        tasks = await bench.tasks()
        assert [task.state for task in tasks.values()] == ["ready", "ready"]
        for task in tasks.values():
            assert (task.examples, task.held_out) == (72, 8)
            assert task.accuracy_registered is not None
            assert min(task.accuracy_registered, task.accuracy_now or 0) > 0.7
            assert task.inferred_now is not None
            assert task.drift is not None
            assert task.registered_at is not None
        assert [version.tasks for version in await bench.versions()] == [
            ["first", "second"],
            ["first"],
        ]

    asyncio.run(story())
    assert bench.reports[0] == {"phase": "loading"}
    assert {"phase": "measuring"} in bench.reports


def test_versions_have_their_parts_in_common(bench: StreamBench) -> None:
    async def story() -> None:
        await bench.create()
        for name, labels in (("first", "ab"), ("second", "cd")):
            await bench.register(name, *labels)
        first, second = await bench.stored(1), await bench.stored(2)
        assert first is not None
        assert second is not None
        assert first.parts[0].blob == second.parts[0].blob
        assert await bench.blob_names() == {*first.blobs, *second.blobs, *await bench.held_out_blobs()}

    asyncio.run(story())


def test_changes_name_the_stream(bench: StreamBench) -> None:
    async def story() -> list[Change]:
        await bench.create()
        await bench.register("first", "a", "b")
        async with bench.database.read() as session:
            rows = await session.scalars(select(ChangeRow).where(ChangeRow.kind == "stream"))
            return [Change(row.tenant, row.kind, row.subject, tuple(row.detail)) for row in rows]

    assert asyncio.run(story()) == [Change(TENANT, "stream", "points", (revision,)) for revision in "12"]


def test_the_dataset_may_be_deleted_afterwards(bench: StreamBench) -> None:
    async def story() -> None:
        await bench.create()
        dataset = await bench.upload(vectors("a", "b"))
        await bench.register("first", dataset=dataset)
        await bench.datasets.delete(dataset)
        task = (await bench.tasks())["first"]
        assert (task.state, task.dataset) == ("ready", None)
        await bench.register("second", "c", "d")
        assert (await bench.tasks())["first"].accuracy_now == 1

    asyncio.run(story())


def test_none_is_held_out_where_none_is_asked(bench: StreamBench) -> None:
    async def story() -> None:
        await bench.create()
        await bench.register("first", "a", "b", held_out=0)
        task = (await bench.tasks())["first"]
        assert (task.examples, task.held_out, task.accuracy_registered, task.alarm) == (80, 0, None, False)
        assert await bench.held_out_blobs() == set()

    asyncio.run(story())


def test_registrations_are_done_in_the_order_asked(bench: StreamBench) -> None:
    async def story() -> None:
        await bench.create()
        works = [
            await bench.request(name, *labels) for name, labels in (("z", "ab"), ("y", "cd"), ("x", "ef"))
        ]
        assert [work.ahead for work in works] == [0, 1, 2]
        for work in works:
            job = await bench.claim()
            assert job.id == work.job.id
            await bench.publish(job, await bench.run(job))
        assert (await bench.version()).tasks == ("z", "y", "x")

    asyncio.run(story())


def test_rolled_back_a_stream_task_is_gone_and_its_name_free(bench: StreamBench) -> None:
    async def story() -> None:
        await bench.create()
        await bench.register("first", "a", "b")
        await bench.register("second", "c", "d")
        stream, revision = await bench.streams.rollback("points", 1)
        assert (stream.version, stream.tasks, revision) == (1, 1, 4)
        second = (await bench.tasks())["second"]
        assert (second.state, second.accuracy_now, second.drift) == ("rolled_back", None, None)
        await bench.register("second", "c", "e")
        version = await bench.version()
        assert version.labels == {"first": ("a", "b"), "second": ("c", "e")}
        stream, _ = await bench.streams.get("points")
        assert stream.version == 3, "numbers are not given twice"
        await bench.streams.rollback("points", 2)
        assert (await bench.version()).labels["second"] == ("c", "d"), "and forward again"

    asyncio.run(story())


def failure(bench: StreamBench) -> JobError:
    async def work() -> JobError:
        with pytest.raises(JobError) as caught:
            await bench.work()
        return caught.value

    return asyncio.run(work())


def test_labels_are_checked_again_when_they_are_registered(bench: StreamBench) -> None:
    """Such as after a version of other labels has become current."""

    async def story() -> None:
        await bench.create()
        await bench.register("first", "a", "b")
        await bench.streams.rollback("points", 1)
        await bench.request("second", "c", "d")
        async with bench.database.write() as session:
            row = (await session.scalars(select(StreamTaskRow).where(StreamTaskRow.name == "first"))).one()
            row.labels = ["a", "c"]

    asyncio.run(story())
    error = failure(bench)
    assert error.code == "registration_refused"
    assert "'c'" in error.detail

    async def after() -> None:
        tasks = await bench.tasks()
        assert (tasks["second"].state, tasks["second"].error) == (
            "failed",
            {"code": "registration_refused", "detail": error.detail},
        )
        assert (await bench.streams.get("points"))[0].version == 1

    asyncio.run(after())


@pytest.mark.parametrize("gone", ["stream", "dataset file", "version"])
def test_what_went_away_meanwhile(bench: StreamBench, gone: str) -> None:
    async def begin() -> None:
        await bench.create()
        await bench.register("first", "a", "b")
        await bench.request("second", "c", "d")

    asyncio.run(begin())

    async def work() -> str:
        job = await bench.claim()
        if gone == "dataset file":
            for path in (bench.folder / "blobs" / "datasets").rglob("*"):
                if path.is_file():
                    path.unlink()
        outcome = await bench.run(job)
        async with bench.store.write() as session:
            row = await repository.get(session, "points")
            assert row is not None
            if gone == "stream":
                await session.delete(row)
            else:
                row.current = None
        await bench.publish(job, outcome)
        return ""

    with pytest.raises(JobError) as caught:
        asyncio.run(work())
    expected = {"stream": "stream_deleted", "dataset file": "blob_lost", "version": "stream_changed"}
    assert caught.value.code == expected[gone]


@pytest.mark.parametrize(
    ("figures", "registered", "alarm"),
    [
        (TaskMeasurement(0.9, 0.9, 0.1), 0.9, False),
        (TaskMeasurement(0.9, 0.9, 0.6), 0.9, True),
        (TaskMeasurement(0.8, 0.9, 0.1), 0.9, True),
        (TaskMeasurement(None, None, 0.1), None, False),
        (TaskMeasurement(None, None, 0.6), None, True),
    ],
)
def test_an_alarm(figures: TaskMeasurement, registered: float | None, alarm: bool) -> None:
    assert has_degraded(figures, registered, most_drift=0.5, most_drop=0.05) is alarm


def test_a_network_that_drifts_raises_the_alarm_of_its_task(bench: StreamBench) -> None:
    async def story() -> None:
        hparams = {**HYPERNETWORK["hparams"], "beta": 0.0, "iterations": 5}
        await bench.create(method="hypernetwork", hparams=hparams, alarm={"drift": 1e-6})
        await bench.register("first", "a", "b")
        await bench.register("second", "c", "d")
        tasks = await bench.tasks()
        assert (tasks["first"].alarm, tasks["second"].alarm) == (True, False)
        assert (tasks["first"].drift or 0) > (tasks["second"].drift or 0)

    asyncio.run(story())


def test_features_of_a_frozen_encoder(empty_database: Path, tmp_path: Path) -> None:
    save_learner(tmp_path / "zoo" / "glyphs", "conv4", {"width": 8}, {"kind": "image"})
    bench = StreamBench(tmp_path / "data", empty_database, tmp_path / "zoo")

    async def story() -> None:
        await bench.create(input=None, learner="glyphs")
        data = zipped(folders(classes=2, examples=4)).getvalue()
        dataset = await bench.upload(data, "application/zip")
        await bench.register("strokes", dataset=dataset, held_out=2)
        assert (await bench.version()).labels == {"strokes": ("class-0", "class-1")}

    asyncio.run(story())
