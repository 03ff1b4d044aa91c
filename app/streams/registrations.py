"""Requests to register or to forget stream tasks: checked here, done by jobs, one at a time for each stream."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete

from app.core.ids import is_id, new_id
from app.datasets import repository as datasets
from app.datasets.service import DatasetService
from app.db.tables import DatasetRow, JobRow, StreamRow, StreamTaskRow
from app.db.tenancy import Store, TenantSession
from app.http.idempotency import UNCLAIMED, Claim
from app.http.limits import LIMITS
from app.http.problems import ProblemError, fail
from app.http.upload import ReceivedFile
from app.jobs import repository as jobs
from app.streams import repository
from app.streams.repository import StreamTaskRecord
from app.streams.resources import StreamResources
from app.streams.schemas import RegisterOptions, RegisterTask
from app.streams.service import task_answer
from app.streams.versions import load_stream, load_tasks_named, task_not_found
from hyperserve.stream_types import StreamWork
from models.continual.held_out import held_out_counts
from models.continual.stream_config import Scenario, StreamConfig
from models.data.errors import ReadOptions
from models.inputs import VectorInput

JOB_LOCATION = "/v1/jobs/{id}"
REGISTER, FORGET = "stream_register", "stream_forget"
VALUES_MAX = 1 << 30
"""Numbers in all inputs of a set together, which a worker holds in memory at once."""


def check_kind(config: StreamConfig, dataset: DatasetRow) -> None:
    """Raises `ProblemError` 422 if the inputs of the dataset are not those of the stream."""
    if dataset.kind != config.input.kind:
        detail = f"The stream takes {config.input.kind}s, but the dataset holds {dataset.kind}s."
        raise fail("dataset_mismatch", detail, "/dataset")
    if isinstance(config.input, VectorInput) and dataset.shape != [config.input.dim]:
        length = None if dataset.shape is None else dataset.shape[0]
        detail = (
            f"The stream takes vectors of {config.input.dim} numbers; those of the dataset have {length}."
        )
        raise fail("dataset_mismatch", detail, "/dataset", config.input.dim)


def chosen_classes(dataset: DatasetRow, classes: Sequence[str] | None) -> dict[str, int]:
    """Return the number of examples by class, in the order of registration. Raises `ProblemError` 422."""
    where = "/dataset" if classes is None else "/classes"
    chosen = list(dataset.classes) if classes is None else [unicodedata.normalize("NFC", c) for c in classes]
    for index, name in enumerate(chosen):
        if name not in dataset.classes:
            raise fail("unknown_class", "The dataset has no such class.", f"/classes/{index}")
        if name in chosen[:index]:
            raise fail("duplicate_label", "The class is named twice.", f"/classes/{index}")
        if dataset.classes[name] < 1:
            raise fail("empty_class", "The class has no examples.", where)
    if len(chosen) < LIMITS.ways_min:
        detail = f"A stream task needs at least {LIMITS.ways_min} classes."
        raise fail("single_class", detail, where, LIMITS.ways_min)
    if len(chosen) > LIMITS.ways_max:
        detail = f"A stream task has at most {LIMITS.ways_max} classes; choose some of them with classes."
        raise fail("too_many_classes", detail, where, LIMITS.ways_max)
    return {name: dataset.classes[name] for name in chosen}


def check_size(config: StreamConfig, examples: int) -> None:
    """Raises `ProblemError` 413."""
    limit = VALUES_MAX // max(math.prod(config.input.shape or (1,)), math.prod(config.shape))
    if examples > limit:
        detail = f"There are {examples} examples; the stream takes at most {limit} at once."
        raise fail("dataset_too_large", detail, "/dataset", limit)


def ordered_labels(
    scenario: Scenario, labels: Mapping[str, int], others: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Return the labels in the order of registration: in cl2 that of the stream's first task.

    Raises `ProblemError` 422 if they do not fit the labels of the other stream tasks.
    """
    for other, theirs in others.items():
        if scenario == "cl2" and set(theirs) != set(labels):
            detail = f"In cl2 all stream tasks must have the same labels; those of {other} differ."
            raise fail("label_clash", detail, "/classes")
        if scenario == "cl2":
            return {label: labels[label] for label in theirs}
        if scenario == "cl3" and (common := [label for label in labels if label in theirs]):
            detail = f"In cl3 all labels must differ; {len(common)} of these belong to {other} already."
            raise fail("label_clash", detail, "/classes")
    return dict(labels)


@dataclass(frozen=True)
class StreamRegistrations:
    """Raises `ProblemError`."""

    resources: StreamResources
    store: Store

    async def register(self, stream: str, request: RegisterTask, claim: Claim = UNCLAIMED) -> StreamWork:
        """Add the row of the stream task and its job in one transaction.

        A stream task of the same name whose registration has failed is replaced.
        """
        self.resources.bundled.check_changeable(stream)
        async with self.store.write() as session:
            row = await load_stream(session, stream, lock=True)
            existing = await repository.tasks(session, row.id)
            _check_name(existing, request.name)
            dataset = await _dataset(session, request.dataset)
            counts = _counts(StreamConfig.model_validate(row.config), dataset, request, existing)
            failed = [task.row.id for task in existing if task.row.name == request.name and _failed(task)]
            await session.execute(delete(StreamTaskRow).where(StreamTaskRow.id.in_(failed)))
            task = _task_row(row, request, dataset, counts)
            payload = {
                "stream": row.id,
                "task": task.id,
                "dataset": dataset.id,
                "labels": list(counts),
                "held_out": request.held_out,
            }
            job = await _enqueue(session, row, REGISTER, payload)
            task.job_id = job.id
            await repository.add(session, task)
            return await _answer(session, row, StreamTaskRecord(task, job.state, None, None), job, claim)

    async def upload(
        self, stream: str, name: str, options: RegisterOptions, upload: ReceivedFile, claim: Claim = UNCLAIMED
    ) -> StreamWork:
        """Make a dataset of the file and register it. The dataset is deleted if the registration is refused."""
        self.resources.bundled.check_changeable(stream)
        async with self.store.read() as session:
            row = await load_stream(session, stream)
            _check_name(await repository.tasks(session, row.id), name)
        datasets = DatasetService(self.resources.datasets, self.store)
        dataset = await datasets.create(upload, f"{stream}/{name}", options=ReadOptions(label=options.label))
        request = RegisterTask(name=name, dataset=dataset.id, held_out=options.held_out)
        try:
            return await self.register(stream, request, claim)
        except ProblemError:
            await datasets.delete(dataset.id)
            raise

    async def forget(self, stream: str, task: str, claim: Claim = UNCLAIMED) -> StreamWork:
        """Enqueue the job that removes a stream task and deletes every version that holds it."""
        self.resources.bundled.check_changeable(stream)
        async with self.store.write() as session:
            row = await load_stream(session, stream, lock=True)
            records = _forgettable(await load_tasks_named(session, row, task))
            payload = {"stream": row.id, "name": task, "tasks": [record.row.id for record in records]}
            job = await _enqueue(session, row, FORGET, payload)
            for record in records:
                record.row.job_id = job.id
            await session.flush()
            first = records[0]
            state = StreamTaskRecord(first.row, job.state, None, first.part)
            return await _answer(session, row, state, job, claim)


def _check_name(existing: Sequence[StreamTaskRecord], name: str) -> None:
    for task in existing:
        if task.row.name != name or not task.reserves_name:
            continue
        details = {
            "forgotten": "A stream task of this name was forgotten; its name cannot be used again.",
            "registering": "A stream task of this name is being registered, or its registration is queued.",
        }
        detail = details.get(task.state, "A stream task of this name is registered already.")
        raise fail("stream_task_exists", detail, "/name")
    if sum(task.state != "failed" for task in existing) >= LIMITS.stream_tasks:
        detail = f"A stream holds at most {LIMITS.stream_tasks} stream tasks."
        raise fail("too_many_stream_tasks", detail, "/name", LIMITS.stream_tasks)


def _counts(
    config: StreamConfig, dataset: DatasetRow, request: RegisterTask, existing: Sequence[StreamTaskRecord]
) -> dict[str, int]:
    """Return the number of examples by label, in the order of registration."""
    check_kind(config, dataset)
    counts = chosen_classes(dataset, request.classes)
    check_size(config, sum(counts.values()))
    # Those of the version that the set will be added to, if the jobs before it succeed.
    others = {task.row.name: task.row.labels for task in existing if task.state in ("ready", "registering")}
    return ordered_labels(config.scenario, counts, others)


def _task_row(
    stream: StreamRow, request: RegisterTask, dataset: DatasetRow, counts: Mapping[str, int]
) -> StreamTaskRow:
    held_out = sum(held_out_counts(list(counts.values()), request.held_out))
    return StreamTaskRow(
        id=new_id("stask"),
        stream_id=stream.id,
        name=request.name,
        labels=list(counts),
        state="registering",
        examples=sum(counts.values()) - held_out,
        held_out=held_out,
        dataset_id=dataset.id,
    )


async def _dataset(session: TenantSession, id: str) -> DatasetRow:
    """Load a dataset and lock it until the transaction ends; then it stays as long as its job is active."""
    dataset = await datasets.get(session, id, lock=True) if is_id(id, "ds") else None
    if dataset is None:
        raise fail("unknown_dataset", "There is no such dataset.", "/dataset")
    return dataset


def _failed(task: StreamTaskRecord) -> bool:
    return task.state == "failed"


def _forgettable(tasks: Sequence[StreamTaskRecord]) -> list[StreamTaskRecord]:
    """Return those of one name that a version may hold. Raises `ProblemError`: 404, 409, 410."""
    found = [task for task in tasks if task.state in ("ready", "rolled_back")]
    states = {task.state for task in tasks}
    if "registering" in states:
        raise fail("stream_busy", "The stream task is being registered; cancel that job instead.")
    if "forgetting" in states:
        raise fail("stream_busy", "The stream task is being forgotten.")
    if found:
        return found
    if "forgotten" in states:
        raise fail("stream_task_forgotten", "The stream task was forgotten.")
    raise task_not_found()


async def _enqueue(session: TenantSession, row: StreamRow, kind: str, payload: jobs.Document) -> JobRow:
    return await jobs.enqueue(session, kind, payload, subject=f"streams/{row.name}", lane=row.id)


async def _answer(
    session: TenantSession, row: StreamRow, task: StreamTaskRecord, job: JobRow, claim: Claim
) -> StreamWork:
    ahead = len(await jobs.ahead(session, job))
    detail = "Jobs of a stream run one at a time; no other job comes before this one."
    if ahead:
        before = "1 job comes" if ahead == 1 else f"{ahead} jobs come"
        detail = f"Jobs of a stream run one at a time; {before} first."
    answer = StreamWork(task=task_answer(task), job=jobs.job_answer(job), ahead=ahead, detail=detail)
    await claim.keep(session, 202, answer, {"Location": JOB_LOCATION.format(id=job.id)}, row.id)
    return answer
