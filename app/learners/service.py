"""Training of learners, and learners as clients see them: create, list, read, delete. A job trains them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from sqlalchemy.exc import IntegrityError

from app.core.ids import is_id, new_id
from app.datasets import repository as datasets
from app.db.invalidation_log import Change, record
from app.db.tables import DatasetRow, LearnerRow
from app.db.tenancy import Store
from app.http.fields import SLUG, PageOptions
from app.http.idempotency import UNCLAIMED, Claim
from app.http.pagination import Cursor
from app.http.problems import ProblemError, fail
from app.jobs import repository as jobs
from app.learners import files, repository
from app.learners.folders import NAME_CHARACTERS
from app.learners.repository import Trained
from app.learners.resources import LearnerResources
from app.learners.schemas import TrainLearner, WayRange
from hyperserve.types import Learner, LearnerCard, Page, Training
from models.data.errors import DatasetFileError
from models.protocol import LearnerError, Span
from models.registry import ENCODERS, METHODS, input_of
from models.training import user_dataset

KIND = "train"
LOCATION = "/v1/jobs/{id}"
_LISTED = rf"[^\x00/]{{1,{NAME_CHARACTERS}}}"
"""Names on a page: a folder of any name may have failed to load."""


@dataclass(frozen=True)
class TrainingService:
    """Raises `ProblemError`."""

    resources: LearnerResources
    store: Store

    async def create(self, wanted: TrainLearner, claim: Claim = UNCLAIMED) -> Training:
        """Add the learner's row and its job, in one transaction. A failed learner of the name is replaced."""
        if wanted.name in self.resources.learners.bundled:
            raise _taken()
        asked = await self._checked(wanted)
        async with self.store.write() as session:
            # Locked: a deletion of the dataset waits, or has come before.
            if await datasets.get(session, wanted.dataset, lock=True) is None:
                raise _unknown_dataset()
            before = await repository.get(session, wanted.name)
            if before is not None:
                if before.status != "failed":
                    raise _taken()
                await repository.remove(session, before.row.id)
            row = LearnerRow(
                id=new_id("lrn"),
                name=wanted.name,
                method=wanted.method,
                status="training",
                dataset_id=wanted.dataset,
            )
            payload = {"learner": row.id, "name": row.name, "dataset": wanted.dataset, **asked.model_dump()}
            job = await jobs.enqueue(session, KIND, payload, subject=f"learners/{row.name}")
            row.job_id = job.id
            try:
                await repository.add(session, row)
            except IntegrityError:
                # Another request for the name came at the same time.
                raise _taken() from None
            described = self.resources.library.describe(Trained(row, job.state, None))
            answer = Training(learner=described, job=jobs.job_answer(job))
            await claim.keep(session, 202, answer, {"Location": LOCATION.format(id=job.id)})
            await record(session, Change(session.tenant, "learner", row.name))
        return answer

    async def page(self, options: PageOptions) -> Page[Learner]:
        """All that are served, being trained or failed, in the order of names."""
        after = "" if options.cursor is None else Cursor.decode_name(options.cursor, _LISTED).after
        limit = options.limit
        async with self.store.read() as session:
            trained = await repository.listed(session, after, limit + 1)
        bundled = self.resources.learners.described_bundled()
        found = {name: learner for name, learner in bundled.items() if name > after}
        for one in trained:
            found.setdefault(one.row.name, self.resources.library.describe(one))
        names = sorted(found)
        items = [found[name] for name in names[:limit]]
        more = len(names) > limit
        return Page[Learner](items=items, next_cursor=Cursor(items[-1].name).encode() if more else None)

    async def get(self, name: str) -> LearnerCard:
        if name in self.resources.learners.bundled:
            return self.resources.learners.bundled_card(name)
        if (found := await self._found(name)) is None:
            raise _not_found()
        if found.status == "ready":
            await self.resources.library.refresh(name)
        return self.resources.library.card(found)

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Delete a learner; if it is being trained, cancel its job."""
        if name in self.resources.learners.bundled:
            raise fail("learner_bundled", "The learner is bundled with the server; it cannot be deleted.")
        if re.fullmatch(SLUG, name) is None:
            raise _not_found()
        async with self.store.write() as session:
            found = await repository.get(session, name)
            if found is None:
                raise _not_found()
            if not force and await repository.in_use(session, name):
                raise fail("learner_in_use", "Tasks use the learner; delete them first, or use force=true.")
            if not force and await repository.is_encoder_of_stream(session, name):
                detail = "Streams use the learner's encoder; delete them first, or use force=true."
                raise fail("learner_in_use", detail)
            await repository.remove(session, found.row.id)
            if found.status == "training" and found.row.job_id is not None:
                await jobs.request_cancel(session, found.row.job_id)
            await record(session, Change(session.tenant, "learner", name))
        await self.resources.library.refresh(name)
        if found.row.digest is not None:
            await self._collect(found.row.digest)

    async def _collect(self, digest: str) -> None:
        await self.resources.collector.collect(self.store.tenant, files.ARTIFACTS, [digest])

    async def _found(self, name: str) -> Trained | None:
        if re.fullmatch(SLUG, name) is None:
            return None
        async with self.store.read() as session:
            return await repository.get(session, name)

    async def _checked(self, wanted: TrainLearner) -> user_dataset.TrainingOptions:
        """Raises `ProblemError` 422 for what could not be trained, before a job is made of it."""
        for field, name, known in (("method", wanted.method, METHODS), ("encoder", wanted.encoder, ENCODERS)):
            if name not in known:
                raise fail(f"unknown_{field}", f"Choose one of {', '.join(sorted(known))}.", f"/{field}")
        dataset = None
        if is_id(wanted.dataset, "ds"):
            async with self.store.read() as session:
                dataset = await datasets.get(session, wanted.dataset)
        if dataset is None:
            raise _unknown_dataset()
        takes = input_of(wanted.encoder).kind
        if takes != dataset.kind:
            detail = f"The encoder {wanted.encoder} takes {takes}s; the dataset holds {dataset.kind}s."
            raise fail("wrong_kind", detail, "/encoder")
        return await asyncio.to_thread(_asked, wanted, dataset)


def _asked(wanted: TrainLearner, dataset: DatasetRow) -> user_dataset.TrainingOptions:
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
    asked = user_dataset.TrainingOptions(
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


def _taken() -> ProblemError:
    return fail("learner_exists", "A learner of this name exists already.", "/name")


def _not_found() -> ProblemError:
    return fail("learner_not_found", "There is no such learner.")


def _unknown_dataset() -> ProblemError:
    return fail("unknown_dataset", "There is no such dataset.", "/dataset")
