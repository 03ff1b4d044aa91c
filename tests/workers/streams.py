"""A service without its server: streams, datasets and a queue whose jobs run in this process."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import select

from app.core.settings import Settings
from app.datasets.service import DatasetService
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.invalidation_log import Change
from app.db.tables import JobRow, StreamTaskRow
from app.http.upload import Spool, Upload
from app.jobs import repository as queue
from app.learners.service import Learners
from app.streams import files, repository
from app.streams.bundled import BundledStreams
from app.streams.registrations import Registrations
from app.streams.schemas import AlarmBounds, CreateStream, RegisterTask
from app.streams.service import StreamService
from hyperserve.stream_types import StreamTask, StreamWork
from models.stream_protocol import StreamVersion
from tests.app.streams.asked import DIM, vectors
from workers.jobs import KINDS, JobContext, JobFailedError, Outcome, load

TENANT = "default"
ANALYTIC: dict[str, Any] = {"method": "analytic", "hparams": {"features": {"count": 32}, "sample": 8}}
HYPERNETWORK: dict[str, Any] = {
    "method": "hypernetwork",
    "hparams": {
        "hidden": [8],
        "iterations": 40,
        "batch": 16,
        "chunk": 60,
        "trunk": [32],
        "lr": 0.02,
        "gate": ANALYTIC["hparams"],
    },
}


@dataclass
class Place:
    folder: Path
    empty: Path
    """A database to begin with: migrating one takes a second."""
    learners_dir: Path | None = None
    url: str | None = None
    """Of another database, migrated."""
    reports: list[Mapping[str, Any]] = field(default_factory=list)
    heard: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        home = {} if self.learners_dir is None else {"learners_dir": self.learners_dir}
        self.settings = Settings(data_dir=self.folder, database_url=self.url, **home)
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.empty, self.folder / "hyperserve.db")
        self.database = Database(self.settings.database)
        self.blobs = Blobs.at(None, self.folder)
        self.learners = Learners({}, {})
        if self.learners_dir is not None:
            self.learners = Learners.load([self.learners_dir], {}, "cpu")
        bundled = BundledStreams({})
        self.streams = StreamService(self.database, self.blobs, self.learners, bundled, self._hear)
        spool = Spool(Path(), most=0, at_once=0, seconds=0)
        self.datasets = DatasetService(self.database, self.blobs, spool)
        self.registrations = Registrations(self.database, self.datasets, bundled)

    async def _hear(self, change: Change) -> None:
        self.heard.append(change)

    async def make(self, name: str = "points", **how: Any) -> None:
        described = {"input": {"kind": "vector", "dim": DIM}, **ANALYTIC, **how}
        alarm = AlarmBounds(**described.pop("alarm", {}))
        await self.streams.create(TENANT, CreateStream(name=name, alarm=alarm, **described))

    async def upload(self, data: bytes, media_type: str = "text/csv") -> str:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            found = Upload(file, len(data), hashlib.sha256(data).hexdigest(), media_type)
            return (await self.datasets.create(TENANT, found, None)).id

    async def ask(self, name: str, *labels: str, stream: str = "points", **how: Any) -> StreamWork:
        """For a registration of clouds of vectors."""
        dataset = how.pop("dataset", None) or await self.upload(vectors(*labels, examples=40))
        return await self.registrations.register(
            TENANT, stream, RegisterTask(name=name, dataset=dataset, **how)
        )

    async def forget(self, name: str, stream: str = "points") -> StreamWork:
        return await self.registrations.forget(TENANT, stream, name)

    async def register(self, name: str, *labels: str, **how: Any) -> Outcome:
        await self.ask(name, *labels, **how)
        return await self.work()

    async def claim(self) -> JobRow:
        async with self.database.write() as session:
            job = await queue.claim(session, "w", 60_000)
        assert job is not None
        return job

    def context(self, job: JobRow) -> JobContext:
        folder = self.folder / "jobs" / job.id / str(job.attempt)
        folder.mkdir(parents=True)
        return JobContext(
            id=job.id,
            tenant=job.tenant,
            kind=job.kind,
            attempt=job.attempt,
            token=job.lease_token,
            payload=job.payload,
            folder=folder,
            previous=None,
            settings=self.settings,
            database=self.database,
            blobs=self.blobs,
            progress=self.reports.append,
        )

    async def run(self, job: JobRow) -> Outcome:
        return await load(KINDS[job.kind])(self.context(job))

    async def publish(self, job: JobRow, outcome: Outcome) -> None:
        async with self.database.write() as session:
            assert await queue.finish(
                session, job.id, job.lease_token, "succeeded", outcome.result, effect=outcome.effect
            )
        if outcome.after is not None:
            await outcome.after()

    async def work(self) -> Outcome:
        """The next job, as a child does it."""
        job = await self.claim()
        try:
            outcome = await self.run(job)
            await self.publish(job, outcome)
        except JobFailedError as error:
            told = {"code": error.code, "detail": error.detail}
            async with self.database.write() as session:
                await queue.finish(session, job.id, job.lease_token, "failed", error=told)
            raise
        return outcome

    async def tasks(self, stream: str = "points") -> dict[str, StreamTask]:
        return {task.name: task for task in (await self.streams.tasks(TENANT, stream)).items}

    async def stored(self, number: int | None = None, stream: str = "points") -> repository.Stored | None:
        async with self.database.read() as session:
            row = await repository.get(session, TENANT, stream)
            assert row is not None
            return await repository.version(session, row, number)

    async def version(self, number: int | None = None, stream: str = "points") -> StreamVersion:
        found = await self.stored(number, stream)
        assert found is not None
        return await files.load(self.blobs, found)

    async def held_out_blobs(self) -> set[str]:
        async with self.database.read() as session:
            found = set(await session.scalars(select(StreamTaskRow.held_out_blob)))
        return {blob for blob in found if blob is not None}

    async def blob_names(self) -> set[str]:
        """Of all parts in the store."""
        return {
            path.rpartition("/")[2]
            async for paths in self.blobs.listed_files(repository.PREFIX)
            for path in paths
        }


def queries(*labels: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Fresh vectors of the labels' clouds, and which label each is of."""
    rows = [line.split(",")[1:] for line in vectors(*labels, examples=10, seed=7).decode().splitlines()]
    x = torch.tensor([[float(value) for value in row] for row in rows])
    return x, torch.arange(len(labels)).repeat_interleave(10)
