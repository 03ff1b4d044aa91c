"""Learners in the making: ask for one, list, read, delete. The work itself is a job of kind train."""

from __future__ import annotations

import asyncio
import re

from app.core.ids import is_id, new_id
from app.datasets import repository as datasets
from app.db.blobs import Blobs
from app.db.engine import Database
from app.db.invalidation_log import Change, record
from app.db.locks import FILES, lock
from app.db.orphans import drop
from app.db.tables import DatasetRow, LearnerRow
from app.http.fields import SLUG
from app.http.idempotency import UNCLAIMED, Claim
from app.http.pagination import Cursor
from app.http.problems import ProblemError, fail
from app.jobs import repository as jobs
from app.learners import files, repository
from app.learners.library import Library
from app.learners.repository import Trained
from app.learners.schemas import TrainLearner, WayRange
from app.learners.service import Learners
from hyperserve.types import Learner, LearnerCard, Page, Training
from models.data.errors import DatasetFileError
from models.protocol import LearnerError, Span
from models.registry import ENCODERS, METHODS
from models.training import user_dataset

KIND = "train"
LOCATION = "/v1/jobs/{id}"
_TAKES = {"conv4": "image", "conv4-rgb": "image", "identity": "vector"}
"""Kind of input of each encoder."""


class TrainingService:
    """Raises `ProblemError`."""

    def __init__(self, database: Database, blobs: Blobs, learners: Learners, library: Library) -> None:
        self._database = database
        self._blobs = blobs
        self._learners = learners
        self._library = library

    async def create(self, tenant: str, wanted: TrainLearner, claim: Claim = UNCLAIMED) -> Training:
        """The learner's row and its job, in one transaction. A failed learner of the name is replaced."""
        if wanted.name in self._learners.bundled:
            raise _taken()
        asked = await self._checked(tenant, wanted)
        async with self._database.write() as session:
            # Two requests for one name, or one and a deletion of its dataset, go one after the other.
            await lock(session, FILES)
            if await datasets.get(session, tenant, wanted.dataset, lock=True) is None:
                raise _unknown_dataset()
            before = await repository.get(session, tenant, wanted.name)
            if before is not None:
                if before.status != "failed":
                    raise _taken()
                await repository.remove(session, before.row.id)
            row = LearnerRow(
                id=new_id("lrn"),
                tenant=tenant,
                name=wanted.name,
                method=wanted.method,
                status="training",
                dataset_id=wanted.dataset,
            )
            payload = {"learner": row.id, "name": row.name, "dataset": wanted.dataset, **asked.model_dump()}
            job = await jobs.enqueue(session, tenant, KIND, payload, subject=f"learners/{row.name}")
            row.job_id = job.id
            await repository.add(session, row)
            described = self._library.describe(Trained(row, job.state, None))
            answer = Training(learner=described, job=jobs.job_answer(job))
            await claim.keep(session, 202, answer, {"Location": LOCATION.format(id=job.id)})
            await record(session, Change(tenant, "learner", row.name))
        return answer

    async def page(self, tenant: str, cursor: Cursor | None, limit: int) -> Page[Learner]:
        """All that are served, being trained or failed, in the order of names."""
        after = "" if cursor is None else cursor.after
        async with self._database.read() as session:
            trained = await repository.listed(session, tenant, after, limit + 1)
        found = {
            name: self._learners.describe(artifact)
            for name, artifact in self._learners.artifacts.items()
            if name in self._learners.bundled and name > after
        }
        for one in trained:
            found.setdefault(one.row.name, self._library.describe(one))
        names = sorted(found)
        items = [found[name] for name in names[:limit]]
        more = len(names) > limit
        return Page[Learner](items=items, next_cursor=Cursor(items[-1].name).encode() if more else None)

    async def get(self, tenant: str, name: str) -> LearnerCard:
        if name in self._learners.bundled:
            return self._learners.card(self._learners.artifacts[name])
        if (found := await self._found(tenant, name)) is None:
            raise _not_found()
        if found.status == "ready":
            await self._library.refresh(name)
        return self._library.card(found)

    async def delete(self, tenant: str, name: str, *, force: bool = False) -> None:
        """While it is trained, its job is cancelled."""
        if name in self._learners.bundled:
            raise fail(
                "learner_bundled", "The learner is served from a folder; it is not the API's to delete."
            )
        if re.fullmatch(SLUG, name) is None:
            raise _not_found()
        async with self._database.write() as session:
            found = await repository.get(session, tenant, name)
            if found is None:
                raise _not_found()
            if not force and await repository.in_use(session, tenant, name):
                raise fail(
                    "learner_in_use", "Tasks are adapted by the learner; delete them, or use force=true."
                )
            if not force and await repository.is_encoder_of_stream(session, tenant, name):
                detail = "Streams stand on the learner's encoder; delete them, or use force=true."
                raise fail("learner_in_use", detail)
            await repository.remove(session, found.row.id)
            if found.status == "training" and found.row.job_id is not None:
                await jobs.request_cancel(session, tenant, found.row.job_id)
            await record(session, Change(tenant, "learner", name))
        await self._library.refresh(name)
        if found.row.digest is not None:
            await self._collect(tenant, found.row.digest)

    async def _collect(self, tenant: str, digest: str) -> None:
        await drop(
            self._database,
            lambda session: repository.refers(session, tenant, digest),
            lambda: files.drop(self._blobs, tenant, digest),
        )

    async def _found(self, tenant: str, name: str) -> Trained | None:
        if re.fullmatch(SLUG, name) is None:
            return None
        async with self._database.read() as session:
            return await repository.get(session, tenant, name)

    async def _checked(self, tenant: str, wanted: TrainLearner) -> user_dataset.Asked:
        """Raises `ProblemError` 422 for what could not be trained, before a job is made of it."""
        for field, name, known in (("method", wanted.method, METHODS), ("encoder", wanted.encoder, ENCODERS)):
            if name not in known:
                raise fail(f"unknown_{field}", f"Known are: {', '.join(sorted(known))}.", f"/{field}")
        dataset = None
        if is_id(wanted.dataset, "ds"):
            async with self._database.read() as session:
                dataset = await datasets.get(session, tenant, wanted.dataset)
        if dataset is None:
            raise _unknown_dataset()
        takes = _TAKES.get(wanted.encoder, dataset.kind)
        if takes != dataset.kind:
            detail = f"The encoder {wanted.encoder} takes {takes}s; the dataset holds {dataset.kind}s."
            raise fail("wrong_kind", detail, "/encoder")
        return await asyncio.to_thread(_asked, wanted, dataset)


def _asked(wanted: TrainLearner, dataset: DatasetRow) -> user_dataset.Asked:
    """The request with its defaults, checked against the method and the data."""
    shape = None if dataset.shape is None else tuple(dataset.shape)
    settings = user_dataset.encoder_hparams(wanted.encoder, shape)
    try:
        taken = user_dataset.ways_of(wanted.method, wanted.hparams, wanted.encoder, settings)
    except LearnerError as error:
        raise fail("invalid_hparams", f"{error}.", "/hparams") from None
    low, high = _ways(wanted.ways, taken)
    if wanted.shots.max < wanted.shots.min:
        raise fail("out_of_range", "max is below min.", "/shots/max", wanted.shots.min)
    asked = user_dataset.Asked(
        method=wanted.method,
        hparams=wanted.hparams,
        encoder=wanted.encoder,
        min_way=low,
        max_way=high,
        min_shot=wanted.shots.min,
        max_shot=wanted.shots.max,
        queries=wanted.queries,
        steps=wanted.steps,
        seed=wanted.seed,
    )
    try:
        user_dataset.check(asked, dataset.classes, taken)
    except DatasetFileError as error:
        raise fail(error.code, error.detail, "/dataset", error.limit) from None
    return asked


def _ways(wanted: WayRange | None, taken: Span) -> tuple[int, int]:
    if wanted is None:
        default = WayRange()
        return taken.nearest(default.min), taken.nearest(default.max)
    if wanted.max < wanted.min:
        raise fail("out_of_range", "max is below min.", "/ways/max", wanted.min)
    if wanted.min not in taken or wanted.max not in taken:
        detail = f"The method as described takes {taken} classes."
        raise fail("unsupported_way", detail, "/ways", taken.high or taken.low)
    return wanted.min, wanted.max


def cursor_of(text: str | None) -> Cursor | None:
    return None if text is None else Cursor.decode_name(text, SLUG)


def _taken() -> ProblemError:
    return fail("learner_exists", "A learner has this name already.", "/name")


def _not_found() -> ProblemError:
    return fail("learner_not_found", "There is no such learner.")


def _unknown_dataset() -> ProblemError:
    return fail("unknown_dataset", "There is no such dataset.", "/dataset")
