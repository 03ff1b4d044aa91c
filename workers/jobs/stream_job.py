"""Steps that the jobs of streams share: load the stream, measure its next version, publish that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from safetensors.torch import load as load_tensors
from sqlalchemy import select
from torch import Tensor, nn

from app.core.ids import new_id
from app.db.blobs import digest
from app.db.tables import StreamPartRow, StreamRow, StreamTaskRow, StreamVersionRow
from app.db.tenancy import TenantSession
from app.learners import files as learner_files
from app.learners import repository as learners
from app.streams import files, repository
from app.streams.repository import StoredStreamVersion
from models.artifact import CONFIG_FILE, Artifact, load
from models.continual.held_out import TaskMeasurement, has_degraded, measure
from models.continual.storage import to_bytes
from models.continual.stream_config import StreamConfig, build
from models.stream_protocol import StreamLearner, StreamVersion
from workers.jobs import JobContext, JobError

HeldOut = tuple[Float[Tensor, "n *input"], Int[Tensor, "n"]]
"""Held-out examples of a stream task: inputs, and indices of labels."""


@dataclass(frozen=True)
class StreamSnapshot:
    """A stream when the job began. It stays the same until the job ends, because jobs of a stream take turns."""

    stream: StreamRow
    config: StreamConfig
    stored: StoredStreamVersion | None
    """The current version; None if no stream task is registered."""
    version: StreamVersion | None
    learner: StreamLearner
    tasks: Mapping[str, StreamTaskRow]
    """Stream tasks of the version, by name."""
    held_out: Mapping[str, HeldOut]

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        return {} if self.stored is None else self.stored.labels

    @property
    def next_number(self) -> int:
        """Number of the version that the job publishes: no other job of the stream can before it."""
        return self.stream.latest + 1


@dataclass(frozen=True)
class NextStreamVersion:
    """A version that is to be published."""

    version: StreamVersion
    shared: str
    """Digest of the shared tensors."""
    parts: Mapping[str, str]
    """Digests of the tensors of each stream task."""
    new_blobs: Mapping[str, bytes] = field(repr=False)
    """Blobs that the previous version does not have, by digest."""
    measurements: Mapping[str, TaskMeasurement]


async def load_snapshot(context: JobContext) -> StreamSnapshot:
    """Raises `JobError`, `BlobMissingError`, `LearnerError`."""
    stored_files = context.store.files(repository.FOLDER)
    async with context.store.read() as session:
        stream = await repository.get_by_id(session, context.payload["stream"])
        if stream is None:
            raise stream_deleted()
        stored = await repository.version(session, stream)
        ids = [] if stored is None else [part.task_id for part in stored.parts]
        rows = list(await session.scalars(select(StreamTaskRow).where(StreamTaskRow.id.in_(ids))))
    config = StreamConfig.model_validate(stream.config)
    encoder = None if config.encoder is None else await _encoder(context, config)
    held_out = {}
    for row in rows:
        if row.held_out_blob is not None:
            held_out[row.name] = _unpack(await files.fetch(stored_files, row.held_out_blob))
    version = None if stored is None else await files.load(stored_files, stored)
    learner = await asyncio.to_thread(build, config, encoder)
    learner.eval().requires_grad_(False).to(context.settings.worker_device)
    return StreamSnapshot(stream, config, stored, version, learner, {row.name: row for row in rows}, held_out)


def next_version(
    snapshot: StreamSnapshot, version: StreamVersion, held_out: Mapping[str, HeldOut]
) -> NextStreamVersion:
    """Measure a version. Raises `JobError` if one of its numbers is not finite."""
    previous = {} if snapshot.stored is None else {part.name: part.blob for part in snapshot.stored.parts}
    shared = to_bytes(_finite(version.shared))
    new_blobs, parts = {digest(shared): shared}, {}
    for task in version.tasks:
        tensors = version.per_task[task]
        if snapshot.version is not None and tensors is snapshot.version.per_task.get(task):
            parts[task] = previous[task]
            continue
        data = to_bytes(_finite(tensors))
        parts[task] = digest(data)
        new_blobs[parts[task]] = data
    measurements = measure(snapshot.learner, version, held_out)
    return NextStreamVersion(version, digest(shared), parts, new_blobs, measurements)


async def lock_unchanged(session: TenantSession, snapshot: StreamSnapshot) -> StreamRow:
    """Lock the stream for the rest of the transaction. Raises `JobError` if it has changed."""
    stream = await repository.get_by_id(session, snapshot.stream.id, lock=True)
    if stream is None:
        raise stream_deleted()
    if stream.current != snapshot.stream.current:
        detail = "Another version became current while the job ran; request it again."
        raise JobError("stream_changed", detail)
    return stream


async def publish(
    session: TenantSession,
    context: JobContext,
    stream: StreamRow,
    following: NextStreamVersion,
    tasks: Mapping[str, StreamTaskRow],
    origin: str,
    subject: str,
) -> None:
    """Write the rows of the version and make it current, in the transaction that has locked the stream."""
    parent, stream.latest = stream.current, stream.latest + 1
    stream.current, stream.revision = stream.latest, stream.revision + 1
    row = StreamVersionRow(
        id=new_id("sv"),
        stream_id=stream.id,
        number=stream.latest,
        parent=parent,
        blob=following.shared,
        origin=origin,
        subject=subject,
        job_id=context.id,
    )
    await repository.add(session, row)
    for position, name in enumerate(following.version.tasks):
        measured, task = following.measurements[name], tasks[name]
        alarm = has_degraded(measured, task.accuracy_registered, stream.alarm_drift, stream.alarm_fall)
        part = StreamPartRow(
            version_id=row.id,
            position=position,
            task_id=task.id,
            blob=following.parts[name],
            accuracy=measured.accuracy,
            inferred=measured.inferred,
            drift=measured.drift,
            alarm=alarm,
        )
        session.add(part)
    await session.flush()


def pack(held_out: HeldOut) -> bytes:
    return to_bytes({"x": held_out[0], "y": held_out[1]})


def stream_deleted() -> JobError:
    return JobError("stream_deleted", "The stream was deleted.")


def _unpack(data: bytes) -> HeldOut:
    found = load_tensors(data)
    return found["x"], found["y"]


async def _encoder(context: JobContext, config: StreamConfig) -> nn.Module:
    """Load the encoder of the learner that the stream names. Raises `JobError`."""
    assert config.encoder is not None
    artifact = await _artifact(context, config.encoder)
    if artifact is None or artifact.digest != config.encoder_digest:
        detail = f"The learner {config.encoder}, whose encoder the stream uses, was deleted or replaced."
        raise JobError("encoder_gone", detail)
    return artifact.learner.encoder


async def _artifact(context: JobContext, name: str) -> Artifact | None:
    """Load a learner from its folder, or from the blob store if it was trained here."""
    for home in (context.settings.learners_dir, context.settings.data_dir / "learners"):
        if (home / name / CONFIG_FILE).is_file():
            return await asyncio.to_thread(load, home / name)
    async with context.store.read() as session:
        trained = await learners.get(session, name)
    if trained is None or trained.row.digest is None:
        return None
    data = await learner_files.fetch(context.store.files(learners.FOLDER), trained.row.digest)
    return await asyncio.to_thread(learner_files.load_files, data, name, context.folder, "cpu")


def _finite(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise JobError("registration_diverged", f"The tensor {name} has values that are not finite.")
    return tensors
