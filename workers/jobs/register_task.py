"""The job that registers a labelled set into a stream: it publishes the stream's next version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import torch
from sqlalchemy import select

from app.datasets import repository as datasets
from app.db.base import now
from app.db.blobs import BlobMissingError, digest
from app.db.invalidation_log import record
from app.db.tables import DatasetRow, StreamTaskRow
from app.db.tenancy import TenantSession
from app.streams import files, repository
from app.streams.cache import changed
from models.artifact import ArtifactError
from models.continual.held_out import held_out_counts, read_examples, split
from models.data.dataset import DatasetError
from models.data.errors import DatasetFileError
from models.protocol import LearnerError
from workers.jobs import JobContext, JobError, Outcome
from workers.jobs.stream_job import (
    HeldOut,
    NextStreamVersion,
    StreamSnapshot,
    load_snapshot,
    lock_unchanged,
    next_version,
    pack,
    publish,
    stream_deleted,
)


async def run(context: JobContext) -> Outcome:
    """Payload: stream and task (ids of rows), dataset, labels, held_out. Raises `JobError`."""
    context.progress({"phase": "loading"})
    async with context.store.read() as session:
        dataset = await datasets.get(session, context.payload["dataset"])
        task = await _task(session, context)
    if dataset is None:
        raise JobError("unknown_dataset", "The dataset was deleted.")
    path = context.folder / f"dataset.{dataset.format}"
    try:
        snapshot = await load_snapshot(context)
        await context.store.files(datasets.FOLDER).fetch(dataset.blob, path)
        following, held_out = await asyncio.to_thread(_register, context, snapshot, task, dataset, path)
    except BlobMissingError as error:
        detail = "A file that the job needs is missing from the blob store."
        raise JobError("blob_lost", detail) from error
    except DatasetFileError as error:
        raise JobError(error.code, f"{error}") from error
    except (DatasetError, LearnerError, ArtifactError) as error:
        raise JobError("registration_refused", f"{error}") from error
    return await _publish(context, snapshot, task, following, held_out)


async def _publish(
    context: JobContext,
    snapshot: StreamSnapshot,
    task: StreamTaskRow,
    following: NextStreamVersion,
    held_out: HeldOut,
) -> Outcome:
    """Write the blobs; the version becomes current, and the stream task ready, when the job ends."""
    name, packed = task.name, pack(held_out)
    measured = following.measurements[name]
    blobs = {**following.new_blobs, **({digest(packed): packed} if len(held_out[1]) else {})}
    stored_files = context.store.files(repository.FOLDER)
    await files.keep(stored_files, blobs)

    async def effect(session: TenantSession) -> None:
        # Blobs that no row named may have been collected since.
        await files.keep(stored_files, blobs)
        stream = await lock_unchanged(session, snapshot)
        row = await _task(session, context)
        row.state, row.registered_at = "ready", now()
        row.accuracy_registered = measured.accuracy
        row.held_out = len(held_out[1])
        row.held_out_blob = digest(packed) if len(held_out[1]) else None
        await publish(session, context, stream, following, {**snapshot.tasks, name: row}, "registered", name)
        await record(session, changed(stream))

    result = {
        "stream": snapshot.stream.name,
        "task": name,
        "version": snapshot.next_number,
        "accuracy": measured.accuracy,
        "inferred": measured.inferred,
        "largest_drift": max(one.drift for one in following.measurements.values()),
    }
    return Outcome(result, effect)


def _register(
    context: JobContext, snapshot: StreamSnapshot, task: StreamTaskRow, dataset: DatasetRow, path: Path
) -> tuple[NextStreamVersion, HeldOut]:
    labels, seed = tuple(context.payload["labels"]), snapshot.config.seed
    reading = datasets.options_of(dataset)
    x, y = read_examples(path, dataset.format, snapshot.config.input, labels, reading)  # type: ignore[arg-type]
    counts = torch.bincount(y, minlength=len(labels)).tolist()
    learned, held = split(y, held_out_counts(counts, context.payload["held_out"]), seed)
    # Shuffled, because only the first are measured: they must not be of one class.
    held = held[torch.randperm(len(held), generator=torch.Generator().manual_seed(seed))]

    def report(values: Mapping[str, float]) -> None:
        context.progress({"phase": "registering", **values})

    context.progress({"phase": "registering"})
    version = snapshot.learner.register(snapshot.version, task.name, labels, x[learned], y[learned], report)
    context.progress({"phase": "measuring"})
    held_out = (x[held], y[held])
    return next_version(snapshot, version, {**snapshot.held_out, task.name: held_out}), held_out


async def _task(session: TenantSession, context: JobContext) -> StreamTaskRow:
    """Load the stream task. Raises `JobError` if it does not wait for this job."""
    query = select(StreamTaskRow).where(StreamTaskRow.id == context.payload["task"])
    row = (await session.scalars(query)).one_or_none()
    if row is None:
        raise stream_deleted()
    if row.state != "registering" or row.job_id != context.id:
        raise JobError("stream_changed", "The stream task belongs to another job by now.")
    return row
