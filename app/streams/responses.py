"""Rows of streams as the wire shows them."""

from __future__ import annotations

from collections.abc import Sequence

from app.db.tables import StreamRow, StreamVersionRow
from app.streams.repository import Part, TaskFound
from hyperserve.stream_types import Alarm, Stream, StreamTask, StreamVersion
from models.continual.bundle import VERSION, Bundle, TaskFigures

_CONFIG = ("method", "scenario", "hparams", "input", "encoder", "encoder_digest", "shape", "seed")


def stream_answer(row: StreamRow, tasks: int) -> Stream:
    """`tasks`: how many the current version holds."""
    return Stream(
        name=row.name,
        version=row.current,
        tasks=tasks,
        alarm=Alarm(drift=row.alarm_drift, fall=row.alarm_fall),
        created_at=row.created_at,
        **{name: row.config[name] for name in _CONFIG},
    )


def task_answer(found: TaskFound) -> StreamTask:
    row, part = found.row, found.part
    return StreamTask(
        name=row.name,
        labels=row.labels,
        state=found.state,
        examples=row.examples,
        held_out=row.held_out,
        accuracy_registered=row.accuracy_registered,
        accuracy_now=None if part is None else part.accuracy,
        inferred_now=None if part is None else part.inferred,
        drift=None if part is None else part.drift,
        alarm=part is not None and part.alarm,
        job=row.job_id,
        dataset=row.dataset_id,
        error=found.error,
        created_at=row.created_at,
        registered_at=row.registered_at,
        forgotten_at=row.forgotten_at,
    )


def version_answer(row: StreamVersionRow, held: Sequence[Part], current: int | None) -> StreamVersion:
    return StreamVersion(
        number=row.number,
        parent=row.parent,
        origin=row.origin,
        task=row.subject,
        current=row.number == current,
        tasks=[part.name for part in held],
        job=row.job_id,
        created_at=row.created_at,
    )


def bundle_answer(bundle: Bundle) -> Stream:
    """Of a stream that came with the server."""
    config = bundle.config.model_dump(mode="json")
    return Stream(
        name=bundle.name,
        version=VERSION,
        tasks=len(bundle.description.labels),
        alarm=None,
        bundled=True,
        created_at=None,
        **{name: config[name] for name in _CONFIG},
    )


def bundle_tasks(bundle: Bundle) -> list[StreamTask]:
    return [
        _bundle_task(name, labels, bundle.description.tasks.get(name, TaskFigures(examples=0)))
        for name, labels in bundle.description.labels.items()
    ]


def _bundle_task(name: str, labels: tuple[str, ...], figures: TaskFigures) -> StreamTask:
    return StreamTask(
        name=name,
        labels=list(labels),
        state="ready",
        alarm=False,
        job=None,
        dataset=None,
        created_at=None,
        registered_at=None,
        forgotten_at=None,
        **figures.model_dump(),
    )


def bundle_version(bundle: Bundle) -> StreamVersion:
    return StreamVersion(
        number=VERSION,
        parent=None,
        origin="registered",
        task=None,
        current=True,
        tasks=list(bundle.description.labels),
        job=None,
        created_at=None,
    )
