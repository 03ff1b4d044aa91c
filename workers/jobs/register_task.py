"""Registers a labelled set into a stream: `StreamLearner.register`, published as the stream's next version."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import torch
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.datasets import repository as datasets
from app.db.base import now
from app.db.blobs import BlobMissingError, digest
from app.db.invalidation_log import record
from app.db.locks import FILES, lock
from app.db.tables import DatasetRow, StreamTaskRow
from app.streams import files
from app.streams.cache import changed
from models.artifact import ArtifactError
from models.continual.held_out import held_out_counts, read_examples, split
from models.data.dataset import DatasetError
from models.data.errors import DatasetFileError
from models.protocol import LearnerError
from workers.jobs import JobContext, JobFailedError, Outcome
from workers.jobs.stream_base import Base, HeldOut, Made, base_of, gone, locked, made, pack, publish


async def run(context: JobContext) -> Outcome:
    """Payload: stream and task (ids of rows), dataset, labels, held_out. Raises `JobFailedError`."""
    context.progress({"phase": "loading"})
    async with context.database.read() as session:
        dataset = await datasets.get(session, context.tenant, context.payload["dataset"])
        task = await _task(session, context)
    if dataset is None:
        raise JobFailedError("unknown_dataset", "The dataset was deleted.")
    path = context.folder / f"dataset.{dataset.format}"
    try:
        base = await base_of(context)
        await context.blobs.fetch_file(datasets.path(context.tenant, dataset.blob), path)
        new, held_out = await asyncio.to_thread(_register, context, base, task, dataset, path)
    except BlobMissingError as error:
        raise JobFailedError("blob_lost", "A file that the job needs is not in the store.") from error
    except DatasetFileError as error:
        raise JobFailedError(error.code, f"{error}") from error
    except (DatasetError, LearnerError, ArtifactError) as error:
        raise JobFailedError("registration_refused", f"{error}") from error
    return await _publish(context, base, task, new, held_out)


async def _publish(
    context: JobContext, base: Base, task: StreamTaskRow, new: Made, held_out: HeldOut
) -> Outcome:
    """Blobs first; the version, the pointer to it and the stream task's state come with the job's end."""
    name, kept = task.name, pack(held_out)
    figures = new.figures[name]
    blobs = {**new.fresh, **({digest(kept): kept} if len(held_out[1]) else {})}
    await files.keep(context.blobs, context.tenant, blobs)

    async def effect(session: AsyncSession) -> None:
        await lock(session, FILES)
        # What no row names yet may have been cleared away since.
        await files.keep(context.blobs, context.tenant, blobs)
        stream = await locked(session, context, base)
        row = await _task(session, context)
        row.state, row.registered_at = "ready", now()
        row.accuracy_registered = figures.accuracy
        row.held_out = len(held_out[1])
        row.held_out_blob = digest(kept) if len(held_out[1]) else None
        await publish(session, context, stream, new, {**base.tasks, name: row}, "registered", name)
        await record(session, changed(stream))

    result = {
        "stream": base.stream.name,
        "task": name,
        "accuracy": figures.accuracy,
        "inferred": figures.inferred,
        "largest_drift": max(one.drift for one in new.figures.values()),
    }
    return Outcome(result, effect)


def _register(
    context: JobContext, base: Base, task: StreamTaskRow, dataset: DatasetRow, path: Path
) -> tuple[Made, HeldOut]:
    labels = tuple(context.payload["labels"])
    x, y = read_examples(path, dataset.format, base.config.input, labels)  # type: ignore[arg-type]
    counts = torch.bincount(y, minlength=len(labels)).tolist()
    wanted = held_out_counts(counts, context.payload["held_out"])
    learned, kept = split(y, wanted, base.config.seed)
    # In an order without meaning: who asks but the first of them asks some of each class.
    kept = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(base.config.seed))]

    def report(values: Mapping[str, float]) -> None:
        context.progress({"phase": "registering", **values})

    context.progress({"phase": "registering"})
    version = base.learner.register(base.version, task.name, labels, x[learned], y[learned], report)
    context.progress({"phase": "measuring"})
    held_out = (x[kept], y[kept])
    return made(base, version, {**base.held_out, task.name: held_out}), held_out


async def _task(session: AsyncSession, context: JobContext) -> StreamTaskRow:
    """Raises `JobFailedError` where it is not this job's to register."""
    mine = (StreamTaskRow.tenant == context.tenant, StreamTaskRow.id == context.payload["task"])
    row = (await session.scalars(select(StreamTaskRow).where(*mine))).one_or_none()
    if row is None:
        raise gone()
    if row.state != "registering" or row.job_id != context.id:
        raise JobFailedError("stream_changed", "The stream task is another job's by now.")
    return row
