"""A stream of one's own that begins as one that came with the server."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from app.db.blobs import Blobs
from app.db.tables import StreamPartRow, StreamRow, StreamTaskRow, StreamVersionRow
from app.db.types import now
from app.http.problems import Fault, ProblemError, fail
from app.ids import new_id
from app.streams import files, repository
from app.streams.bundled import BundledStreams
from app.streams.schemas import CreateStream
from models.continual.bundle import Bundle, TaskFigures

_FIXED = ("method", "scenario", "hparams", "input", "learner", "seed")
"""Fields that a copy has from its source."""


def source(wanted: CreateStream, bundled: BundledStreams) -> Bundle:
    """Raises `ProblemError` 422."""
    if given := [name for name in _FIXED if name in wanted.model_fields_set]:
        raise ProblemError([Fault("given_twice", "A copy has it from its source.", f"/{n}") for n in given])
    found = bundled.get(wanted.source or "")
    if found is None:
        detail = f"Copied can be: {', '.join(bundled.bundles) or 'none'}."
        raise fail("unknown_stream", detail, "/from")
    return found


async def copy(session: AsyncSession, blobs: Blobs, row: StreamRow, bundle: Bundle) -> None:
    """Its one version and its stream tasks, whose held-out examples are not copied. To be called under
    `app.db.locks.FILES`."""
    description = bundle.description
    parts = {digest: bundle.own(task) for task, digest in description.own.items()}
    parts[description.shared] = bundle.shared()
    await files.keep(blobs, row.tenant, parts)
    version = StreamVersionRow(
        id=new_id("sv"),
        tenant=row.tenant,
        stream_id=row.id,
        number=1,
        parent=None,
        blob=description.shared,
        origin="copied",
    )
    # They are listed by their ids, and ids of one millisecond come in any order.
    ids = sorted(new_id("stask") for _ in description.labels)
    named = zip(ids, description.labels.items(), strict=True)
    tasks = [_task(row, id, name, labels, bundle) for id, (name, labels) in named]
    await repository.add(session, version, *tasks)
    for position, task in enumerate(tasks):
        figures = description.tasks.get(task.name, TaskFigures(examples=0))
        session.add(
            StreamPartRow(
                version_id=version.id,
                position=position,
                tenant=row.tenant,
                task_id=task.id,
                blob=description.own[task.name],
                accuracy=figures.accuracy_now,
                inferred=figures.inferred_now,
                drift=figures.drift,
                alarm=False,
            )
        )
    row.current = row.latest = 1
    await session.flush()


def _task(row: StreamRow, id: str, name: str, labels: tuple[str, ...], bundle: Bundle) -> StreamTaskRow:
    figures = bundle.description.tasks.get(name, TaskFigures(examples=0))
    return StreamTaskRow(
        id=id,
        tenant=row.tenant,
        stream_id=row.id,
        name=name,
        labels=list(labels),
        state="ready",
        examples=figures.examples,
        held_out=0,
        accuracy_registered=figures.accuracy_registered,
        registered_at=now(),
    )
