"""Stream tasks asked to be registered or forgotten: checked here, done by jobs, one at a time for each stream."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import is_id, new_id
from app.datasets import repository as datasets
from app.datasets.service import DatasetService
from app.db.engine import Database
from app.db.tables import DatasetRow, JobRow, StreamRow, StreamTaskRow
from app.http.idempotency import UNCLAIMED, Claim
from app.http.limits import LIMITS
from app.http.problems import ProblemError, fail
from app.http.upload import Upload
from app.jobs import repository as jobs
from app.jobs import repository as lanes
from app.streams import repository, responses
from app.streams.bundled import BundledStreams
from app.streams.repository import TaskFound
from app.streams.schemas import RegisterTask
from app.streams.service import found, named, no_task
from hyperserve.stream_types import StreamWork
from models.continual.config import Scenario, StreamConfig
from models.continual.dataset_reader import held_out_counts
from models.inputs import VectorInput

VALUES_MOST = 1 << 30
"""Numbers of all inputs of a set together: a worker has them in memory at once."""


def check_kind(config: StreamConfig, dataset: DatasetRow) -> None:
    """Raises `ProblemError` 422 for a set of other inputs than the stream takes."""
    if dataset.kind != config.input.kind:
        detail = f"The stream takes {config.input.kind}s; the dataset holds {dataset.kind}s."
        raise fail("dataset_mismatch", detail, "/dataset")
    if isinstance(config.input, VectorInput) and dataset.shape != [config.input.dim]:
        length = None if dataset.shape is None else dataset.shape[0]
        detail = f"The stream takes vectors of {config.input.dim} numbers; the dataset's have {length}."
        raise fail("dataset_mismatch", detail, "/dataset", config.input.dim)


def choose(dataset: DatasetRow, classes: Sequence[str] | None) -> dict[str, int]:
    """The classes to register, in order, with how many examples each has. Raises `ProblemError` 422."""
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
        detail = f"A stream task has at most {LIMITS.ways_max} classes; choose some."
        raise fail("too_many_classes", detail, where, LIMITS.ways_max)
    return {name: dataset.classes[name] for name in chosen}


def check_size(config: StreamConfig, examples: int) -> None:
    """Raises `ProblemError` 413."""
    one = config.input.dim if isinstance(config.input, VectorInput) else config.input.size**2
    channels = getattr(config.input, "channels", 1)
    most = VALUES_MOST // max(channels * (one or 1), math.prod(config.shape))
    if examples > most:
        detail = f"There are {examples} examples; the stream takes at most {most} at once."
        raise fail("dataset_too_large", detail, "/dataset", most)


def ordered(
    scenario: Scenario, labels: Mapping[str, int], others: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """The labels as they are to be registered beside those of other stream tasks: in cl2 in the order of the first.

    Raises `ProblemError` 422 where they do not go together.
    """
    for other, theirs in others.items():
        if scenario == "cl2" and set(theirs) != set(labels):
            detail = f"In cl2 all stream tasks have the same labels; those of {other} are others."
            raise fail("label_clash", detail, "/classes")
        if scenario == "cl2":
            return {label: labels[label] for label in theirs}
        if scenario == "cl3" and (common := [label for label in labels if label in theirs]):
            detail = f"In cl3 labels are all different; {len(common)} of these are of {other} already."
            raise fail("label_clash", detail, "/classes")
    return dict(labels)


REGISTER, FORGET = "stream_register", "stream_forget"
LOCATION = "/v1/jobs/{id}"


class Registrations:
    """Raises `ProblemError`."""

    def __init__(self, database: Database, datasets: DatasetService, bundled: BundledStreams) -> None:
        self._database = database
        self.datasets = datasets
        self._bundled = bundled

    async def register(
        self, tenant: str, stream: str, wanted: RegisterTask, claim: Claim = UNCLAIMED
    ) -> StreamWork:
        """The stream task's row and its job, in one transaction. One of the name that failed is replaced."""
        self._bundled.refuse(stream)
        async with self._database.write() as session:
            row = await found(session, tenant, stream, lock=True)
            before = await repository.tasks(session, row.id)
            _check_name(before, wanted.name)
            dataset = await _dataset(session, tenant, wanted.dataset)
            counts = _counts(StreamConfig.model_validate(row.config), dataset, wanted, before)
            held = sum(held_out_counts(list(counts.values()), wanted.held_out))
            failed = [task.row.id for task in before if task.row.name == wanted.name and _failed(task)]
            await session.execute(delete(StreamTaskRow).where(StreamTaskRow.id.in_(failed)))
            task = StreamTaskRow(
                id=new_id("stask"),
                tenant=tenant,
                stream_id=row.id,
                name=wanted.name,
                labels=list(counts),
                state="registering",
                examples=sum(counts.values()) - held,
                held_out=held,
                dataset_id=dataset.id,
            )
            payload = {
                "stream": row.id,
                "task": task.id,
                "dataset": dataset.id,
                "labels": list(counts),
                "held_out": wanted.held_out,
            }
            job = await _enqueue(session, row, REGISTER, payload)
            task.job_id = job.id
            await repository.add(session, task)
            return await _answered(session, row, TaskFound(task, job.state, None, None), job, claim)

    async def upload(
        self,
        tenant: str,
        stream: str,
        name: str,
        held_out: int | None,
        upload: Upload,
        claim: Claim = UNCLAIMED,
    ) -> StreamWork:
        """The file becomes a dataset, which is gone again where the registration is refused."""
        self._bundled.refuse(stream)
        async with self._database.read() as session:
            row = await found(session, tenant, stream)
            _check_name(await repository.tasks(session, row.id), name)
        dataset = await self.datasets.create(tenant, upload, f"{stream}/{name}")
        wanted = RegisterTask(name=name, dataset=dataset.id, held_out=held_out)
        try:
            return await self.register(tenant, stream, wanted, claim)
        except ProblemError:
            await self.datasets.delete(tenant, dataset.id)
            raise

    async def forget(self, tenant: str, stream: str, task: str, claim: Claim = UNCLAIMED) -> StreamWork:
        """The job that takes a stream task out, and every version that holds it."""
        self._bundled.refuse(stream)
        async with self._database.write() as session:
            row = await found(session, tenant, stream, lock=True)
            kept = _to_forget(await named(session, row, task))
            payload = {"stream": row.id, "name": task, "tasks": [one.row.id for one in kept]}
            job = await _enqueue(session, row, FORGET, payload)
            for one in kept:
                one.row.job_id = job.id
            await session.flush()
            first = kept[0]
            state = TaskFound(first.row, job.state, None, first.part)
            return await _answered(session, row, state, job, claim)


def _check_name(before: Sequence[TaskFound], name: str) -> None:
    for task in before:
        if task.row.name != name or not task.keeps_name:
            continue
        words = {
            "forgotten": "A stream task of this name was forgotten; its name is not used again.",
            "registering": "A stream task of this name is being registered, or waits to be.",
        }
        detail = words.get(task.state, "A stream task of this name is registered already.")
        raise fail("stream_task_exists", detail, "/name")
    if sum(task.state != "failed" for task in before) >= LIMITS.stream_tasks:
        detail = f"A stream holds at most {LIMITS.stream_tasks} stream tasks."
        raise fail("too_many_stream_tasks", detail, "/name", LIMITS.stream_tasks)


def _counts(
    config: StreamConfig, dataset: DatasetRow, wanted: RegisterTask, before: Sequence[TaskFound]
) -> dict[str, int]:
    """Examples of each label, in the order of registration."""
    check_kind(config, dataset)
    counts = choose(dataset, wanted.classes)
    check_size(config, sum(counts.values()))
    return ordered(config.scenario, counts, _others(before))


def _others(before: Sequence[TaskFound]) -> Mapping[str, Sequence[str]]:
    """Labels of what the version holds that it will be added to, as far as the jobs before it do what they shall."""
    return {task.row.name: task.row.labels for task in before if task.state in ("ready", "registering")}


async def _dataset(session: AsyncSession, tenant: str, id: str) -> DatasetRow:
    """It stays until the transaction ends, and then while its job waits."""
    dataset = await datasets.get(session, tenant, id, lock=True) if is_id(id, "ds") else None
    if dataset is None:
        raise fail("unknown_dataset", "There is no such dataset.", "/dataset")
    return dataset


def _failed(task: TaskFound) -> bool:
    return task.state == "failed"


def _to_forget(tasks: Sequence[TaskFound]) -> list[TaskFound]:
    """All of the name that a version may hold. Raises `ProblemError`: 404, 409, 410."""
    kept = [task for task in tasks if task.state in ("ready", "rolled_back")]
    states = {task.state for task in tasks}
    if "registering" in states:
        raise fail("stream_busy", "The stream task is being registered; cancel its job instead.")
    if "forgetting" in states:
        raise fail("stream_busy", "The stream task is being forgotten.")
    if kept:
        return kept
    if "forgotten" in states:
        raise fail("stream_task_forgotten", "The stream task was forgotten.")
    raise no_task()


async def _enqueue(session: AsyncSession, row: StreamRow, kind: str, payload: jobs.Document) -> JobRow:
    return await jobs.enqueue(
        session, row.tenant, kind, payload, subject=f"{repository.PREFIX}{row.name}", lane=row.id
    )


async def _answered(
    session: AsyncSession, row: StreamRow, task: TaskFound, job: JobRow, claim: Claim
) -> StreamWork:
    ahead = len(await lanes.ahead(session, job))
    detail = "Jobs of a stream run one after the other; none is before this one."
    if ahead:
        before = "1 job comes" if ahead == 1 else f"{ahead} jobs come"
        detail = f"Jobs of a stream run one after the other; {before} first."
    answer = StreamWork(
        task=responses.task_answer(task), job=jobs.job_answer(job), ahead=ahead, detail=detail
    )
    await claim.keep(session, 202, answer, {"Location": LOCATION.format(id=job.id)}, row.id)
    return answer
