"""The training job, run in this process: what it makes, where it goes on, how it fails."""

from __future__ import annotations

import asyncio
import hashlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.ids import new_id
from app.core.settings import Settings
from app.datasets.resources import DatasetResources
from app.datasets.service import DatasetService
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.migrate import prepare_database
from app.db.tables import LearnerRow
from app.db.tenancy import Store
from app.http.upload import ReceivedFile, Spool
from app.learners import files, repository
from hyperserve.types import Dataset
from models.inputs import PhotoInput
from models.training.trainer import STATE_FILE
from tests.models.data.archives import zipped
from tests.models.photo_data import photos, png
from workers.jobs import JobContext, JobError, Outcome
from workers.jobs.train import resume, run

OPTIONS: dict[str, Any] = {
    "method": "hyperset",
    "hparams": {"width": 8, "depth": 1, "heads": 1},
    "encoder": "identity",
    "min_way": 2,
    "max_way": 4,
    "min_shot": 1,
    "max_shot": 2,
    "queries": 2,
    "steps": 20,
    "seed": 0,
}
JOB = "job_test"


class Workplace:
    """A database, a blob store and a dataset; attempts of one job."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder)
        prepare_database(self.settings)
        self.store = Store("default", Database(self.settings.database), Blobs.at(None, folder))
        self.collector = BlobCollector(self.store.database, self.store.all_blobs)
        self.reports: list[Mapping[str, Any]] = []
        self.learner = new_id("lrn")

    async def upload(self, data: bytes, media_type: str = "application/x-npz") -> Dataset:
        spool = Spool(Path(), most=0, at_once=0, seconds=0)
        service = DatasetService(DatasetResources(spool, self.collector), self.store)
        with tempfile.TemporaryFile() as file:
            file.write(data)
            found = ReceivedFile(file, len(data), hashlib.sha256(data).hexdigest(), media_type)
            return await service.create(found, "points")

    async def begin(self, dataset: Dataset) -> None:
        row = LearnerRow(
            id=self.learner,
            name="mine",
            method="hyperset",
            status="training",
            dataset_id=dataset.id,
            job_id=JOB,
        )
        async with self.store.write() as session:
            await repository.add(session, row)

    def context(self, dataset: str, attempt: int = 1, **options: Any) -> JobContext:
        folder = self.settings.data_dir / "jobs" / JOB / str(attempt)
        folder.mkdir(parents=True)
        previous = folder.parent / str(attempt - 1)
        return JobContext(
            id=JOB,
            kind="train",
            attempt=attempt,
            token=attempt,
            payload={"learner": self.learner, "name": "mine", "dataset": dataset, **OPTIONS, **options},
            folder=folder,
            previous=previous if previous.exists() else None,
            settings=self.settings,
            collector=self.collector,
            store=self.store,
            progress=self.reports.append,
        )

    async def publish(self, outcome: Outcome) -> None:
        assert outcome.effect is not None
        async with self.store.write() as session:
            await outcome.effect(session)


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def points(classes: int = 12, examples: int = 10) -> bytes:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), examples)
    x = 3 * rng.standard_normal((classes, 6))[labels] + 0.3 * rng.standard_normal((len(labels), 6))
    file = io.BytesIO()
    np.savez(file, x=x.astype("f4"), label=labels)
    return file.getvalue()


def test_it_makes_a_learner_that_answers(workplace: Workplace) -> None:
    async def work() -> None:
        dataset = await workplace.upload(points())
        await workplace.begin(dataset)
        outcome = await run(workplace.context(dataset.id))
        async with workplace.store.read() as session:
            trained = await repository.get(session, "mine")
        assert trained is not None
        assert trained.row.status == "training", "nothing is published before the job is"
        await workplace.publish(outcome)
        async with workplace.store.read() as session:
            trained = await repository.get(session, "mine")
        assert trained is not None
        assert (trained.status, trained.row.digest is None) == ("ready", False)
        data = await files.fetch(workplace.store.files(repository.FOLDER), trained.row.digest or "")
        made = files.load_files(data, "mine", workplace.settings.data_dir / "scratch", "cpu")
        assert made.digest.startswith(outcome.result["digest"])
        assert made.config.input.model_dump() == {"kind": "vector", "dim": 6}
        assert made.config.metrics["validation"]["score"] > 0.9
        assert f"points ({dataset.id})" in made.card
        assert made.card.startswith("# mine\n")

    asyncio.run(work())
    assert [report["phase"] for report in workplace.reports[:2]] == ["loading", "training"]
    assert workplace.reports[-1]["phase"] == "calibrating"
    assert workplace.reports[-1]["step"] == workplace.reports[-1]["steps"] == 20


def test_pictures_make_a_learner_of_colours_where_that_is_asked(workplace: Workplace) -> None:
    data = photos(classes=7, examples=6)
    members = {
        f"{data.class_names[int(label)]}/{index}.png": png(pixels)
        for index, (pixels, label) in enumerate(zip(data.inputs, data.labels, strict=True))
    }

    async def work() -> None:
        dataset = await workplace.upload(zipped(members).getvalue(), "application/zip")
        await workplace.begin(dataset)
        context = workplace.context(dataset.id, method="protonet", hparams={}, encoder="conv4-rgb", steps=1)
        await workplace.publish(await run(context))
        async with workplace.store.read() as session:
            trained = await repository.get(session, "mine")
        assert trained is not None
        stored = await files.fetch(workplace.store.files(repository.FOLDER), trained.row.digest or "")
        made = files.load_files(stored, "mine", workplace.settings.data_dir / "scratch", "cpu")
        assert made.config.input == PhotoInput()
        assert made.config.encoder_hparams["widths"] == [64, 64, 64, 64]

    asyncio.run(work())


def test_an_attempt_goes_on_where_the_one_before_was_killed(workplace: Workplace) -> None:
    async def work() -> tuple[str, str]:
        dataset = await workplace.upload(points())
        await workplace.begin(dataset)
        whole = (await run(workplace.context(dataset.id, attempt=9))).result["digest"]
        stopped = workplace.context(dataset.id, attempt=3)

        def kill(report: Mapping[str, Any]) -> None:
            if report["step"] == 11:
                raise KilledError

        with pytest.raises(KilledError):
            await run(JobContext(**{**vars(stopped), "progress": kill}))
        workplace.reports.clear()
        outcome = await run(workplace.context(dataset.id, attempt=4))
        return whole, outcome.result["digest"]

    whole, resumed = asyncio.run(work())
    steps = [report["step"] for report in workplace.reports if report["phase"] == "training"]
    assert steps[:2] == [0, 11], "it goes on after the checkpoint at step 10"
    assert resumed == whole, "and comes to the same learner"


class KilledError(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize("damage", [b"", b"half a file", None])
def test_a_checkpoint_that_is_damaged_or_missing_is_no_obstacle(tmp_path: Path, damage: bytes | None) -> None:
    previous, folder = tmp_path / "1", tmp_path / "2"
    previous.mkdir()
    folder.mkdir()
    if damage is not None:
        (previous / STATE_FILE).write_bytes(damage)
    resume(previous, folder)
    assert not (folder / STATE_FILE).exists()


def test_a_learner_that_was_deleted_meanwhile_is_not_published(workplace: Workplace) -> None:
    async def work() -> None:
        dataset = await workplace.upload(points())
        outcome = await run(workplace.context(dataset.id, method="protonet", hparams={}))
        await workplace.publish(outcome)

    with pytest.raises(JobError) as caught:
        asyncio.run(work())
    assert caught.value.code == "learner_deleted"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"min_way": 12, "max_way": 12}, "dataset_too_small"),
        ({"hparams": {"nope": 1}}, "training_refused"),
        ({"encoder": "conv4"}, "training_refused"),
    ],
)
def test_what_cannot_be_trained_fails_with_its_reason(
    workplace: Workplace, options: dict[str, Any], code: str
) -> None:
    async def work() -> None:
        dataset = await workplace.upload(points())
        await run(workplace.context(dataset.id, **options))

    with pytest.raises(JobError) as caught:
        asyncio.run(work())
    assert caught.value.code == code


def test_a_dataset_that_is_gone(workplace: Workplace) -> None:
    async def lost() -> None:
        dataset = await workplace.upload(points())
        for path in (workplace.settings.data_dir / "blobs" / "datasets").rglob("*"):
            if path.is_file():
                path.unlink()
        await run(workplace.context(dataset.id))

    with pytest.raises(JobError, match="missing from the blob store"):
        asyncio.run(lost())
    with pytest.raises(JobError, match="was deleted"):
        asyncio.run(run(workplace.context(new_id("ds"), attempt=2)))
