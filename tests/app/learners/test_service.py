"""Asking for learners on each kind of database, several at once."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.core.settings import Settings
from app.datasets.resources import DatasetResources
from app.datasets.service import DatasetService
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.tenancy import Store
from app.http.dependencies import DEFAULT_TENANT
from app.http.problems import ProblemError
from app.http.upload import ReceivedFile, Spool
from app.jobs import repository as jobs
from app.learners import repository
from app.learners.library import Library
from app.learners.resources import LearnerResources
from app.learners.schemas import TrainLearner
from app.learners.served_learners import ServedLearners
from app.learners.service import TrainingService
from app.runtime import Runtime
from app.serving.engine import Engine
from hyperserve.types import Dataset, Training

VECTORS = "\n".join(f"class-{c},{c},{e}" for c in range(12) for e in range(8)).encode()


class Place:
    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.blobs = Blobs.at(None, folder)
        self.store = Store(DEFAULT_TENANT, database, self.blobs)
        nothing: Any = None
        settings = Settings(data_dir=folder)
        collector = BlobCollector(database, self.blobs)
        runtime = Runtime(settings, database, self.blobs, collector, Engine({}), nothing, nothing, nothing)
        learners = ServedLearners({}, {})
        self.datasets = DatasetService(
            DatasetResources(Spool(folder, most=0, at_once=0, seconds=0), collector), self.store
        )
        self.trainings = TrainingService(
            LearnerResources(learners, Library(runtime, learners), collector), self.store
        )

    async def upload(self) -> Dataset:
        with tempfile.TemporaryFile() as file:
            file.write(VECTORS)
            found = ReceivedFile(file, len(VECTORS), hashlib.sha256(VECTORS).hexdigest(), "text/csv")
            return await self.datasets.create(found, None)

    async def ask(self, dataset: str, name: str = "mine") -> Training:
        return await self.trainings.create(TrainLearner(name=name, encoder="identity", dataset=dataset))


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Callable[[Callable[[Place], Awaitable[None]]], None]:
    async def with_place(story: Callable[[Place], Awaitable[None]]) -> None:
        database = Database(database_url)
        try:
            await story(Place(database, tmp_path))
        finally:
            await database.close()

    return lambda story: asyncio.run(with_place(story))


Run = Callable[[Callable[[Place], Awaitable[None]]], None]


def test_of_many_that_ask_for_a_name_one_gets_it(run: Run) -> None:
    async def story(place: Place) -> None:
        made = [await place.upload() for _ in range(2)]
        asked = await asyncio.gather(
            *(place.ask(made[index % 2].id) for index in range(8)), return_exceptions=True
        )
        refused = [error for error in asked if isinstance(error, ProblemError)]
        assert [error.code for error in refused] == 7 * ["learner_exists"]
        async with place.store.read() as session:
            assert len(await jobs.page(session, None, 50)) == 1

    run(story)


def test_a_dataset_is_deleted_or_trained_on_and_never_both(run: Run) -> None:
    async def story(place: Place) -> None:
        for round in range(6):
            dataset = (await place.upload()).id
            asked, deleted = await asyncio.gather(
                place.ask(dataset, f"round-{round}"),
                place.datasets.delete(dataset),
                return_exceptions=True,
            )
            codes = [one.code for one in (asked, deleted) if isinstance(one, ProblemError)]
            assert codes in (["dataset_in_use"], ["unknown_dataset"]), (asked, deleted)

    run(story)


def test_the_same_file_uploaded_and_deleted_at_once_is_kept_for_who_has_it(run: Run) -> None:
    async def story(place: Place) -> None:
        first = await place.upload()
        for _ in range(20):
            second, _ = await asyncio.gather(place.upload(), place.datasets.delete(first.id))
            first = second
        (path,) = [path async for some in place.blobs.listed_files("datasets/") for path in some]
        assert await place.blobs.get_file(path) == VECTORS

    run(story)


def test_a_learner_is_published_once_and_by_its_own_job(run: Run) -> None:
    async def story(place: Place) -> None:
        dataset = (await place.upload()).id
        training = await place.ask(dataset)
        async with place.store.read() as session:
            found = await repository.get(session, "mine")
        assert found is not None
        assert found.status == "training"
        async with place.store.write() as session:
            assert not await repository.publish(session, found.row.id, "another job", "0" * 64)
            assert await repository.publish(session, found.row.id, training.job.id, "0" * 64)
            assert await repository.names(session) == ["mine"]
            assert await repository.unreferenced(session, ["0" * 64, "1" * 64]) == {"1" * 64}
        # Its dataset may go now; the learner stays, without naming it.
        async with place.store.write() as session:
            await jobs.request_cancel(session, training.job.id)
        await place.datasets.delete(dataset)
        async with place.store.read() as session:
            found = await repository.get(session, "mine")
        assert found is not None
        assert (found.status, found.row.dataset_id) == ("ready", None)

    run(story)


def test_what_is_no_name_is_unknown(run: Run) -> None:
    """PostgreSQL takes no NUL in a text."""

    async def story(place: Place) -> None:
        for call in (place.trainings.get, place.trainings.delete):
            with pytest.raises(ProblemError, match="learner_not_found"):
                await call("a\0")

    run(story)


def test_a_dataset_is_deleted_although_its_file_cannot_be(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The row is gone: who would delete it again is told 404."""

    async def story(place: Place) -> None:
        made = await place.upload()
        file = tmp_path / "blobs" / "datasets" / DEFAULT_TENANT / hashlib.sha256(VECTORS).hexdigest()
        file.unlink()
        (file / "in the way").mkdir(parents=True)
        await place.datasets.delete(made.id)
        with pytest.raises(ProblemError, match="dataset_not_found"):
            await place.datasets.get(made.id)

    run(story)
    assert "1 blobs of datasets are deleted later" in caplog.text
