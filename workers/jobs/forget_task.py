"""Forgets a stream task: taken out of the version that answers, and gone with every other version that holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.base import now
from app.db.blobs import BlobMissingError
from app.db.invalidation_log import record
from app.db.locks import FILES, lock
from app.db.tables import StreamPartRow, StreamTaskRow, StreamVersionRow
from app.streams import files, repository
from app.streams.cache import changed
from models.artifact import ArtifactError
from models.protocol import LearnerError
from workers.jobs import JobContext, JobFailedError, Outcome
from workers.jobs.stream_base import Base, Made, base_of, locked, made, publish


async def run(context: JobContext) -> Outcome:
    """Payload: stream (id of its row), name, tasks (ids of all rows of the name). Raises `JobFailedError`."""
    context.progress({"phase": "loading"})
    try:
        base = await base_of(context)
        new = await asyncio.to_thread(_forget, context, base)
    except BlobMissingError as error:
        raise JobFailedError("blob_lost", "A part of the stream is not in the store.") from error
    except (LearnerError, ArtifactError) as error:
        raise JobFailedError("forgetting_refused", f"{error}") from error
    return await _publish(context, base, new)


async def _publish(context: JobContext, base: Base, new: Made | None) -> Outcome:
    name, ids = str(context.payload["name"]), list(context.payload["tasks"])
    purged: set[str] = set()
    if new is not None:
        await files.keep(context.blobs, context.tenant, new.fresh)

    async def effect(session: AsyncSession) -> None:
        await lock(session, FILES)
        stream = await locked(session, context, base)
        if new is not None:
            await files.keep(context.blobs, context.tenant, new.fresh)
            await publish(session, context, stream, new, base.tasks, "forgotten", name)
        elif name in base.labels:
            # It was the only one.
            stream.current, stream.revision = None, stream.revision + 1
        else:
            stream.revision += 1
        versions = [version.id for version in await repository.holding(session, ids)]
        purged.update(await _blobs(session, versions))
        await session.execute(delete(StreamVersionRow).where(StreamVersionRow.id.in_(versions)))
        for row in await session.scalars(select(StreamTaskRow).where(StreamTaskRow.id.in_(ids))):
            if row.held_out_blob is not None:
                purged.add(row.held_out_blob)
            row.state, row.forgotten_at, row.dataset_id = "forgotten", now(), None
            row.held_out, row.held_out_blob = 0, None
        await session.flush()
        await record(session, changed(stream, versions))

    async def after() -> None:
        await files.collect(context.database, context.blobs, context.tenant, purged)

    return Outcome({"stream": base.stream.name, "task": name}, effect, after)


def _forget(context: JobContext, base: Base) -> Made | None:
    """None where the version that answers does not hold it, or holds nothing else."""
    name = str(context.payload["name"])
    if base.version is None or name not in base.labels or len(base.labels) == 1:
        return None

    def report(values: Mapping[str, float]) -> None:
        context.progress({"phase": "forgetting", **values})

    context.progress({"phase": "forgetting"})
    version = base.learner.forget(base.version, name, report)
    context.progress({"phase": "measuring"})
    return made(base, version, base.held_out)


async def _blobs(session: AsyncSession, versions: list[str]) -> set[str]:
    shared = select(StreamVersionRow.blob).where(StreamVersionRow.id.in_(versions))
    own = select(StreamPartRow.blob).where(StreamPartRow.version_id.in_(versions)).distinct()
    return {*await session.scalars(shared), *await session.scalars(own)}
