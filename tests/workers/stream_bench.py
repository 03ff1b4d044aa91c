"""The services of streams and datasets without a server, and a queue whose jobs run in this process."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import select

from app.cluster import Cluster
from app.core.settings import Settings
from app.datasets.resources import DatasetResources
from app.datasets.service import DatasetService
from app.db.blob_collector import BlobCollector
from app.db.blobs import Blobs
from app.db.database import Database
from app.db.invalidation_log import Change, ChangeWatcher
from app.db.tables import JobRow, StreamTaskRow
from app.db.tenancy import Store
from app.http.fields import PageOptions
from app.http.upload import ReceivedFile, Spool
from app.jobs import repository as queue
from app.learners.served_learners import ServedLearners
from app.runtime import Runtime
from app.serving.cache_stats import CacheStats
from app.serving.engine import Engine
from app.streams import files, repository
from app.streams.bundled import BundledStreams
from app.streams.cache import StreamInvalidation, StreamVersionCache, TensorCache
from app.streams.learners import StreamLearners
from app.streams.registrations import StreamRegistrations
from app.streams.repository import StoredStreamVersion
from app.streams.resources import StreamResources
from app.streams.schemas import AlarmBounds, CreateStream, RegisterTask
from app.streams.service import StreamService
from hyperserve.stream_types import StreamTask, StreamVersion, StreamWork
from models import stream_protocol
from tests.app.streams.stream_requests import DIM, vectors
from workers.jobs import KINDS, JobContext, JobError, Outcome, load

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


@dataclass(frozen=True)
class RecordingInvalidation(StreamInvalidation):
    applied: list[Change] = field(default_factory=list)

    async def apply(self, change: Change) -> None:
        self.applied.append(change)


def runtime_of(settings: Settings, database: Database, blobs: Blobs) -> Runtime:
    """Return a runtime whose engine is not started, alone in its cluster."""
    cluster = Cluster(ChangeWatcher(database), CacheStats(), None, None)
    pool = ThreadPoolExecutor(1)
    collector, engine = BlobCollector(database, blobs), Engine({}, arena_bytes=1 << 16)
    return Runtime(settings, database, blobs, collector, engine, cluster, pool, pool)


def resources_of(runtime: Runtime, learners: ServedLearners, bundled: BundledStreams) -> StreamResources:
    """Return resources that only record the changes to apply."""
    versions, tensors = StreamVersionCache(), TensorCache()
    return StreamResources(
        runtime,
        learners,
        DatasetResources(Spool(Path(), most=0, at_once=0, seconds=0), runtime.collector),
        bundled,
        versions,
        StreamLearners(learners, "cpu"),
        tensors,
        RecordingInvalidation(versions, tensors, runtime.engine, None),
    )


@dataclass
class StreamBench:
    """Streams, datasets and jobs of one tenant."""

    folder: Path
    empty: Path
    """A migrated database to copy: migrating one takes a second."""
    learners_dir: Path | None = None
    url: str | None = None
    """Another database, migrated."""
    reports: list[Mapping[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        home = {} if self.learners_dir is None else {"learners_dir": self.learners_dir}
        self.settings = Settings(data_dir=self.folder, database_url=self.url, **home)
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.empty, self.folder / "hyperserve.db")
        self.database = Database(self.settings.database)
        learners = ServedLearners({}, {})
        if self.learners_dir is not None:
            learners = ServedLearners.load([self.learners_dir], {}, "cpu")
        runtime = runtime_of(self.settings, self.database, Blobs.at(None, self.folder))
        self.resources = resources_of(runtime, learners, BundledStreams({}))
        self.store = runtime.store(TENANT)
        self.streams = StreamService(self.resources, self.store)
        self.registrations = StreamRegistrations(self.resources, self.store)
        self.datasets = DatasetService(self.resources.datasets, self.store)

    @property
    def applied(self) -> list[Change]:
        """Changes that the services have applied to the caches of the process."""
        invalidation = self.resources.invalidation
        assert isinstance(invalidation, RecordingInvalidation)
        return invalidation.applied

    async def create(self, name: str = "points", **how: Any) -> None:
        described = {"input": {"kind": "vector", "dim": DIM}, **ANALYTIC, **how}
        alarm = AlarmBounds(**described.pop("alarm", {}))
        await self.streams.create(CreateStream(name=name, alarm=alarm, **described))

    async def upload(self, data: bytes, media_type: str = "text/csv") -> str:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            found = ReceivedFile(file, len(data), hashlib.sha256(data).hexdigest(), media_type)
            return (await self.datasets.create(found, None)).id

    async def request(self, name: str, *labels: str, stream: str = "points", **how: Any) -> StreamWork:
        """Request a registration of clouds of vectors."""
        dataset = how.pop("dataset", None) or await self.upload(vectors(*labels, examples=40))
        return await self.registrations.register(stream, RegisterTask(name=name, dataset=dataset, **how))

    async def forget(self, name: str, stream: str = "points") -> StreamWork:
        return await self.registrations.forget(stream, name)

    async def register(self, name: str, *labels: str, **how: Any) -> Outcome:
        await self.request(name, *labels, **how)
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
            kind=job.kind,
            attempt=job.attempt,
            token=job.lease_token,
            payload=job.payload,
            folder=folder,
            previous=None,
            settings=self.settings,
            collector=self.resources.runtime.collector,
            store=Store(job.tenant, self.database, self.store.all_blobs),
            progress=self.reports.append,
        )

    async def run(self, job: JobRow) -> Outcome:
        return await load(KINDS[job.kind])(self.context(job))

    async def publish(self, job: JobRow, outcome: Outcome) -> None:
        async with self.resources.runtime.collector.naming(self.store) as session:
            assert await queue.finish(
                session, job.id, job.lease_token, "succeeded", outcome.result, effect=outcome.effect
            )
        if outcome.after is not None:
            await outcome.after()

    async def work(self) -> Outcome:
        """Run the next job as a child does."""
        job = await self.claim()
        try:
            outcome = await self.run(job)
            await self.publish(job, outcome)
        except JobError as error:
            failure = {"code": error.code, "detail": error.detail}
            async with self.store.write() as session:
                await queue.finish(session, job.id, job.lease_token, "failed", error=failure)
            raise
        return outcome

    async def tasks(self, stream: str = "points") -> dict[str, StreamTask]:
        return {task.name: task for task in (await self.streams.tasks(stream)).items}

    async def versions(self, stream: str = "points") -> list[StreamVersion]:
        """List the versions, newest first."""
        return (await self.streams.versions(stream, PageOptions())).items

    async def stored(self, number: int | None = None, stream: str = "points") -> StoredStreamVersion | None:
        async with self.store.read() as session:
            row = await repository.get(session, stream)
            assert row is not None
            return await repository.version(session, row, number)

    async def version(
        self, number: int | None = None, stream: str = "points"
    ) -> stream_protocol.StreamVersion:
        found = await self.stored(number, stream)
        assert found is not None
        return await files.load(self.store.files(repository.FOLDER), found)

    async def held_out_blobs(self) -> set[str]:
        async with self.database.read() as session:
            found = set(await session.scalars(select(StreamTaskRow.held_out_blob)))
        return {blob for blob in found if blob is not None}

    async def blob_names(self) -> set[str]:
        """Return the digests of all parts in the blob store."""
        return {
            path.rpartition("/")[2]
            async for paths in self.store.all_blobs.listed_files(f"{repository.FOLDER}/")
            for path in paths
        }


def queries(*labels: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return new vectors of the labels' clouds, and the index of the label of each."""
    rows = [line.split(",")[1:] for line in vectors(*labels, examples=10, seed=7).decode().splitlines()]
    x = torch.tensor([[float(value) for value in row] for row in rows])
    return x, torch.arange(len(labels)).repeat_interleave(10)
