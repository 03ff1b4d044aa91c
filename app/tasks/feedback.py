"""Stored predictions, and feedback on them: the query joins the support set with its right answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import numpy as np
import numpy.typing as npt

from app.core.errors import AppError
from app.core.ids import created_ms, is_id, new_id
from app.db.base import now
from app.db.blobs import BlobMissingError, digest
from app.db.tables import PredictionRow, TaskRow, VersionRow
from app.db.tenancy import Store, TenantSession
from app.http.idempotency import Claim
from app.http.problems import ProblemError, fail
from app.payloads.support import GroundTruth
from app.tasks import repository, schemas
from app.tasks.cache import TaskVersionRef
from app.tasks.prepare import truth_of
from app.tasks.repository import StoredExample, task_not_found
from app.tasks.resources import TaskResources
from app.tasks.revisions import (
    ATTEMPTS,
    RevisedTask,
    RevisionBase,
    RevisionService,
    RevisionTerms,
    SupportDraft,
    relabelled,
)
from app.tasks.weights import VersionWeights
from hyperserve.types import Estimate, Prediction
from models.inputs import RawInput

_SECONDS_MAX = 100 * 365 * 86_400.0


class FeedbackChangedError(AppError):
    """Another request has given feedback on the prediction since it was read."""


@dataclass(frozen=True)
class CorrectedQuery:
    """A stored query with its right answer. `x` is the decoded query, [1, *input]."""

    row: PredictionRow
    truth: GroundTruth
    x: npt.NDArray[np.float32]

    def __call__(self, base: RevisionBase) -> SupportDraft:
        """Add the query to the examples. If earlier feedback did so, change its label or target instead."""
        row, (label, target) = self.row, self.truth
        for example in base.examples:
            if example.prediction == row.id:
                return relabelled(base, example.id, self.truth, always=True)
        start = base.examples[-1].position + 1
        added = StoredExample(start, new_id("ex"), label, row.kind, row.blob, row.id, target)
        sources = tuple(range(len(base.examples)))
        where = "/label" if target is None else "/target"
        return SupportDraft((*base.examples, added), sources, (added,), x=self.x, where=where)


@dataclass(frozen=True)
class FeedbackService:
    """Stores predictions for some time and takes feedback on them. Raises `ProblemError`."""

    resources: TaskResources
    store: Store

    async def store_predictions(
        self, ref: TaskVersionRef, queries: Sequence[RawInput], answers: Sequence[Prediction | Estimate]
    ) -> list[str]:
        """Return ids of the predictions. Raises `ProblemError` 404 if the task was deleted meanwhile."""
        data = [raw.to_bytes() for raw in queries]
        names = await self.resources.runtime.in_decoder(lambda: [digest(one) for one in data])
        expires = now() + timedelta(seconds=self._seconds)
        rows = [
            PredictionRow(
                id=new_id("pred"),
                task_id=ref.task,
                version=ref.number,
                label=answer.label if isinstance(answer, Prediction) else "",
                target=answer.mean if isinstance(answer, Estimate) else None,
                kind=query.kind,
                blob=name,
                expires_at=expires,
            )
            for query, answer, name in zip(queries, answers, names, strict=True)
        ]

        async def add(session: TenantSession) -> None:
            await repository.hold_task(session, ref.task)
            await repository.add_predictions(session, rows)

        blobs = dict(zip(names, data, strict=True))
        await self.resources.runtime.collector.write(self.store, repository.INPUTS, blobs, add)
        return [row.id for row in rows]

    async def give(self, prediction: str, given: schemas.Relabelling, claim: Claim) -> RevisedTask:
        """Return the version that has the query as an example of that label or target.

        Feedback that repeats what was given before makes no new version.
        """
        revisions = RevisionService(self.resources, self.store)
        for _ in range(ATTEMPTS):
            row = await self._found(prediction)
            truth = truth_of(given, await self.resources.versions.find(self.store, row.task_id))
            if _given_truth(row) == truth:
                return await self._repeated(row, claim)
            try:
                correction = CorrectedQuery(row, truth, await self._decoded(row))
                terms = RevisionTerms("feedback", claim=claim, effect=partial(_store_feedback, row, truth))
                return await revisions.revise(row.task_id, correction, terms)
            except FeedbackChangedError:
                continue
            except BlobMissingError:
                # It may have lapsed at this moment; otherwise the input is lost.
                if await self._found(prediction):
                    raise
        raise fail("task_contended", "Other requests kept giving feedback on the prediction; try again.")

    @property
    def _seconds(self) -> float:
        return min(self.resources.runtime.settings.prediction_seconds, _SECONDS_MAX)

    async def _found(self, prediction: str) -> PredictionRow:
        """Return a stored prediction. Raises `ProblemError` 404, or 410 once it has lapsed."""
        if not is_id(prediction, "pred"):
            raise _prediction_not_found()
        async with self.store.read() as session:
            row = await repository.get_prediction(session, prediction)
        if row is not None and row.expires_at >= now():
            return row
        # Rows of lapsed predictions are deleted; their ids still tell when they were made.
        if row is not None or created_ms(prediction) + self._seconds * 1e3 < now().timestamp() * 1e3:
            raise _lapsed()
        raise _prediction_not_found()

    async def _decoded(self, row: PredictionRow) -> npt.NDArray[np.float32]:
        ref = await self.resources.versions.find(self.store, row.task_id)
        artifact = await self.resources.artifact(ref.learner)
        weights = VersionWeights(self.resources, self.store)
        return await weights.inputs(ref, artifact, [(row.kind, row.blob)])

    async def _repeated(self, row: PredictionRow, claim: Claim) -> RevisedTask:
        """Return the version that the same feedback made before."""
        number = row.feedback_version
        assert number is not None
        async with self.store.read() as session:
            found = await repository.get_version(session, row.task_id, number)
        if found is None:
            raise task_not_found()
        self.resources.versions.drop(row.task_id, found[0].revision)
        revised = RevisedTask(schemas.task_answer(*found), found[0].revision)
        if claim.id is not None:
            async with self.store.write() as session:
                await repository.hold_task(session, row.task_id)
                await claim.keep(session, 201, revised.task, revised.headers, row.task_id)
        return revised


async def _store_feedback(
    seen: PredictionRow, truth: GroundTruth, session: TenantSession, _task: TaskRow, version: VersionRow
) -> None:
    row = await repository.get_prediction(session, seen.id, lock=True)
    if row is None:
        raise _lapsed()
    if row.feedback_version != seen.feedback_version:
        raise FeedbackChangedError
    row.feedback, row.feedback_version = truth.label, version.number
    row.feedback_target = None if truth.target is None else list(truth.target)


def _given_truth(row: PredictionRow) -> GroundTruth | None:
    """Return the right answer that was given before."""
    if row.feedback is None:
        return None
    return GroundTruth(row.feedback, None if row.feedback_target is None else tuple(row.feedback_target))


def _prediction_not_found() -> ProblemError:
    return fail("prediction_not_found", "There is no such prediction.")


def _lapsed() -> ProblemError:
    return fail("prediction_lapsed", "The prediction no longer takes feedback.")
