"""The job that forgets a stream task: it makes a version without it, and deletes every version that holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sqlalchemy import select

from app.db.base import now
from app.db.blobs import BlobMissingError
from app.db.invalidation_log import record
from app.db.tables import StreamTaskRow
from app.db.tenancy import TenantSession
from app.streams import files, repository
from app.streams.cache import changed
from models.artifact import ArtifactError
from models.protocol import LearnerError
from workers.jobs import JobContext, JobError, Outcome
from workers.jobs.stream_job import (
    NextStreamVersion,
    StreamSnapshot,
    load_snapshot,
    lock_unchanged,
    next_version,
    publish,
)


async def run(context: JobContext) -> Outcome:
    """Payload: stream (id of its row), name, tasks (ids of all rows of the name). Raises `JobError`."""
    context.progress({"phase": "loading"})
    try:
        snapshot = await load_snapshot(context)
        following = await asyncio.to_thread(_forget, context, snapshot)
    except BlobMissingError as error:
        raise JobError("blob_lost", "A part of the stream is missing from the blob store.") from error
    except (LearnerError, ArtifactError) as error:
        raise JobError("forgetting_refused", f"{error}") from error
    return await _publish(context, snapshot, following)


async def _publish(
    context: JobContext, snapshot: StreamSnapshot, following: NextStreamVersion | None
) -> Outcome:
    name, ids = str(context.payload["name"]), list(context.payload["tasks"])
    stored_files = context.store.files(repository.FOLDER)
    unneeded: set[str] = set()
    if following is not None:
        await files.keep(stored_files, following.new_blobs)

    async def effect(session: TenantSession) -> None:
        stream = await lock_unchanged(session, snapshot)
        if following is not None:
            await files.keep(stored_files, following.new_blobs)
            await publish(session, context, stream, following, snapshot.tasks, "forgotten", name)
        elif name in snapshot.labels:
            # The version held no other stream task.
            stream.current, stream.revision = None, stream.revision + 1
        else:
            stream.revision += 1
        versions = await repository.versions_holding(session, ids)
        unneeded.update(await repository.remove_versions(session, versions))
        for row in await session.scalars(select(StreamTaskRow).where(StreamTaskRow.id.in_(ids))):
            if row.held_out_blob is not None:
                unneeded.add(row.held_out_blob)
            row.state, row.forgotten_at, row.dataset_id = "forgotten", now(), None
            row.held_out, row.held_out_blob = 0, None
        await session.flush()
        await record(session, changed(stream, versions))

    async def after() -> None:
        await context.collector.collect(context.store.tenant, repository.PARTS, unneeded)

    version = None if following is None else snapshot.next_number
    return Outcome({"stream": snapshot.stream.name, "task": name, "version": version}, effect, after)


def _forget(context: JobContext, snapshot: StreamSnapshot) -> NextStreamVersion | None:
    """Return None if the current version does not hold the stream task, or holds no other."""
    name = str(context.payload["name"])
    if snapshot.version is None or name not in snapshot.labels or len(snapshot.labels) == 1:
        return None

    def report(values: Mapping[str, float]) -> None:
        context.progress({"phase": "forgetting", **values})

    context.progress({"phase": "forgetting"})
    version = snapshot.learner.forget(snapshot.version, name, report)
    context.progress({"phase": "measuring"})
    return next_version(snapshot, version, snapshot.held_out)
