"""What the jobs of streams share: the version to start from, its learner, and how the next one is published."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from safetensors.torch import load as load_tensors
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from torch import Tensor, nn

from app.core.ids import new_id
from app.db.blobs import digest
from app.db.tables import StreamPartRow, StreamRow, StreamTaskRow, StreamVersionRow
from app.learners import files as learner_files
from app.learners import repository as learners
from app.streams import files, repository
from app.streams.repository import Stored
from models.artifact import CONFIG_FILE, Artifact, load
from models.continual.held_out import TaskMeasurement, has_degraded, measure
from models.continual.storage import to_bytes
from models.continual.stream_config import StreamConfig, build
from models.stream_protocol import StreamLearner, StreamVersion
from workers.jobs import JobContext, JobFailedError

HeldOut = tuple[Float[Tensor, "n *input"], Int[Tensor, "n"]]


@dataclass(frozen=True)
class Base:
    """The stream as it was when the job began. Jobs of a stream run one at a time, so it stays so."""

    stream: StreamRow
    config: StreamConfig
    stored: Stored | None
    """None where no stream task is registered."""
    version: StreamVersion | None
    learner: StreamLearner
    tasks: Mapping[str, StreamTaskRow]
    """Of its version, by name."""
    held_out: Mapping[str, HeldOut]

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        return {} if self.stored is None else self.stored.labels


@dataclass(frozen=True)
class Made:
    """A version that is to be published."""

    version: StreamVersion
    shared: str
    own: Mapping[str, str]
    """Digest of each part."""
    fresh: Mapping[str, bytes] = field(repr=False)
    """Parts that the version before did not have, by digest."""
    figures: Mapping[str, TaskMeasurement]


async def base_of(context: JobContext) -> Base:
    """Raises `JobFailedError`, `BlobMissingError`, `LearnerError`."""
    async with context.database.read() as session:
        mine = (StreamRow.tenant == context.tenant, StreamRow.id == context.payload["stream"])
        stream = (await session.scalars(select(StreamRow).where(*mine))).one_or_none()
        if stream is None:
            raise gone()
        stored = await repository.version(session, stream)
        ids = [] if stored is None else [part.task_id for part in stored.parts]
        rows = list(await session.scalars(select(StreamTaskRow).where(StreamTaskRow.id.in_(ids))))
    config = StreamConfig.model_validate(stream.config)
    encoder = None if config.encoder is None else await _encoder(context, config)
    held_out = {}
    for row in rows:
        if row.held_out_blob is not None:
            held_out[row.name] = unpack(await files.fetch(context.blobs, context.tenant, row.held_out_blob))
    version = None if stored is None else await files.load(context.blobs, stored)
    learner = await asyncio.to_thread(build, config, encoder)
    learner.eval().requires_grad_(False).to(context.settings.worker_device)
    return Base(stream, config, stored, version, learner, {row.name: row for row in rows}, held_out)


def made(base: Base, version: StreamVersion, held_out: Mapping[str, HeldOut]) -> Made:
    """The version with its digests and figures. Raises `JobFailedError` where a number is not finite."""
    before = {} if base.stored is None else {part.name: part.blob for part in base.stored.parts}
    shared = to_bytes(_finite(version.shared))
    fresh, own = {digest(shared): shared}, {}
    for task in version.tasks:
        if base.version is not None and version.per_task[task] is base.version.per_task.get(task):
            own[task] = before[task]
            continue
        data = to_bytes(_finite(version.per_task[task]))
        own[task] = digest(data)
        fresh[own[task]] = data
    return Made(version, digest(shared), own, fresh, measure(base.learner, version, held_out))


async def locked(session: AsyncSession, context: JobContext, base: Base) -> StreamRow:
    """The stream, for the rest of the transaction. Raises `JobFailedError` where it is not as it was."""
    stream = await repository.lock_id(session, context.tenant, base.stream.id)
    if stream is None:
        raise gone()
    if stream.current != base.stream.current:
        raise JobFailedError("stream_changed", "Another version became current meanwhile; ask again.")
    return stream


async def publish(
    session: AsyncSession,
    context: JobContext,
    stream: StreamRow,
    new: Made,
    tasks: Mapping[str, StreamTaskRow],
    origin: str,
    subject: str,
) -> None:
    """Writes the version's rows and makes it current, in the transaction that holds the stream locked."""
    parent, stream.latest = stream.current, stream.latest + 1
    stream.current, stream.revision = stream.latest, stream.revision + 1
    row = StreamVersionRow(
        id=new_id("sv"),
        tenant=context.tenant,
        stream_id=stream.id,
        number=stream.latest,
        parent=parent,
        blob=new.shared,
        origin=origin,
        subject=subject,
        job_id=context.id,
    )
    await repository.add(session, row)
    for position, name in enumerate(new.version.tasks):
        figures, task = new.figures[name], tasks[name]
        alarm = has_degraded(figures, task.accuracy_registered, stream.alarm_drift, stream.alarm_fall)
        session.add(
            StreamPartRow(
                version_id=row.id,
                position=position,
                tenant=context.tenant,
                task_id=task.id,
                blob=new.own[name],
                accuracy=figures.accuracy,
                inferred=figures.inferred,
                drift=figures.drift,
                alarm=alarm,
            )
        )
    await session.flush()


def pack(held_out: HeldOut) -> bytes:
    return to_bytes({"x": held_out[0], "y": held_out[1]})


def unpack(data: bytes) -> HeldOut:
    found = load_tensors(data)
    return found["x"], found["y"]


def gone() -> JobFailedError:
    return JobFailedError("stream_deleted", "The stream was deleted.")


async def _encoder(context: JobContext, config: StreamConfig) -> nn.Module:
    """Of the learner that the stream names, from its folder or the blob store. Raises `JobFailedError`."""
    assert config.encoder is not None
    artifact = await _artifact(context, config.encoder)
    if artifact is None or artifact.digest != config.encoder_digest:
        detail = f"The learner {config.encoder}, whose encoder the stream stands on, is gone or another one."
        raise JobFailedError("encoder_gone", detail)
    return artifact.learner.encoder


async def _artifact(context: JobContext, name: str) -> Artifact | None:
    for home in (context.settings.learners_dir, context.settings.data_dir / "learners"):
        if (home / name / CONFIG_FILE).is_file():
            return await asyncio.to_thread(load, home / name)
    async with context.database.read() as session:
        trained = await learners.get(session, context.tenant, name)
    if trained is None or trained.row.digest is None:
        return None
    data = await learner_files.fetch(context.blobs, context.tenant, trained.row.digest)
    return await asyncio.to_thread(learner_files.load_files, data, name, context.folder, "cpu")


def _finite(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise JobFailedError("registration_diverged", f"The numbers of {name} are not finite.")
    return tensors
