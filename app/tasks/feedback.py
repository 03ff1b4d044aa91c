"""Predictions that are kept, and what clients say was right: the query joins the support set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.ids import is_id, made_ms, new_id
from app.db.base import now
from app.db.blobs import BlobMissingError, digest
from app.db.tables import PredictionRow, TaskRow, VersionRow
from app.http.idempotency import Claim
from app.http.problems import ProblemError, fail
from app.payloads.support import Aim
from app.tasks import repository, schemas
from app.tasks.cache import Head
from app.tasks.dependencies import Shared
from app.tasks.prepare import aim_of
from app.tasks.repository import Base, Held, StoredExample
from app.tasks.responses import task_answer
from app.tasks.revisions import ATTEMPTS, Draft, Revised, Reviser, Terms, redirected
from app.tasks.weights import not_found
from hyperserve.types import Estimate, Prediction, Timing
from models.inputs import RawInput

_SECONDS_MAX = 100 * 365 * 86_400.0


class AnsweredError(Exception):
    """Somebody else has given feedback meanwhile."""


@dataclass(frozen=True)
class Correction:
    """A kept query and its label or target. `x` is the decoded query, [1, *input]."""

    row: PredictionRow
    aim: Aim
    x: npt.NDArray[np.float32]

    def __call__(self, base: Base) -> Draft:
        """Where the query is an example already, by earlier feedback, that changes its label or target."""
        row, (label, target) = self.row, self.aim
        for held in base.examples:
            if held.prediction == row.id:
                return redirected(base, held.id, self.aim, anew=True)
        start = base.examples[-1].position + 1
        added = Held(start, new_id("ex"), label, row.kind, row.blob, row.id, target)
        sources = tuple(range(len(base.examples)))
        where = "/label" if target is None else "/target"
        return Draft((*base.examples, added), sources, (added,), x=self.x, where=where)


class Feedback:
    """Keeps predictions for `seconds` and takes feedback to them."""

    def __init__(self, shared: Shared, reviser: Reviser, seconds: float) -> None:
        self._shared = shared
        self._reviser = reviser
        self._seconds = min(seconds, _SECONDS_MAX)

    async def keep(
        self, head: Head, queries: Sequence[RawInput], answers: Sequence[Prediction | Estimate]
    ) -> list[str]:
        """Ids of the predictions. Raises `ProblemError` 404 where the task was deleted meanwhile."""
        data = [raw.to_bytes() for raw in queries]
        names = await self._shared.off_loop(lambda: [digest(one) for one in data])
        expires = now() + timedelta(seconds=self._seconds)
        rows = [
            PredictionRow(
                id=new_id("pred"),
                tenant=head.tenant,
                task_id=head.task,
                version=head.number,
                label=answer.label if isinstance(answer, Prediction) else "",
                target=answer.mean if isinstance(answer, Estimate) else None,
                kind=query.kind,
                blob=name,
                expires_at=expires,
            )
            for query, answer, name in zip(queries, answers, names, strict=True)
        ]

        async def add(session: AsyncSession) -> None:
            if not await repository.share_task(session, head.tenant, head.task):
                raise not_found()
            await repository.add_predictions(session, rows)

        await self._shared.writer.inputs(head.tenant, dict(zip(names, data, strict=True)), add)
        return [row.id for row in rows]

    async def give(
        self, tenant: str, prediction: str, wanted: schemas.Wanted, claim: Claim, timing: Timing
    ) -> Revised:
        """The version that has the query as an example of that label or target; the same one when it is said
        again."""
        for _ in range(ATTEMPTS):
            row = await self._found(tenant, prediction)
            aim = aim_of(wanted, await self._shared.head(tenant, row.task_id))
            if _said(row) == aim:
                return await self._again(row, claim)
            try:
                correction = Correction(row, aim, await self._decoded(row))
                terms = Terms("feedback", claim=claim, then=partial(self._given, row, aim))
                return await self._reviser.revise(tenant, row.task_id, correction, terms, timing)
            except AnsweredError:
                continue
            except BlobMissingError:
                # It may have lapsed at this moment; otherwise the input is lost.
                if await self._found(tenant, prediction):
                    raise
        raise fail("task_contended", "Others gave feedback to it all the time; try again.")

    async def _found(self, tenant: str, prediction: str) -> PredictionRow:
        """Raises `ProblemError` 404, or 410 once it has lapsed."""
        if not is_id(prediction, "pred"):
            raise _no_prediction()
        async with self._shared.database.read() as session:
            row = await repository.get_prediction(session, tenant, prediction)
        if row is not None and row.expires_at >= now():
            return row
        # Rows of lapsed predictions go; their ids still tell when they were made.
        if row is not None or made_ms(prediction) + self._seconds * 1e3 < now().timestamp() * 1e3:
            raise _lapsed()
        raise _no_prediction()

    async def _decoded(self, row: PredictionRow) -> npt.NDArray[np.float32]:
        head = await self._shared.head(row.tenant, row.task_id)
        artifact = await self._shared.artifact(head.learner)
        stored = StoredExample(row.label, row.kind, row.blob)
        return await self._shared.restorer.arrays(head, artifact, [stored])

    async def _given(
        self,
        seen: PredictionRow,
        aim: Aim,
        session: AsyncSession,
        _task: TaskRow,
        version: VersionRow,
        _draft: Draft,
    ) -> None:
        row = await repository.get_prediction(session, seen.tenant, seen.id, lock=True)
        if row is None:
            raise _lapsed()
        if row.feedback_version != seen.feedback_version:
            raise AnsweredError
        label, target = aim
        row.feedback, row.feedback_version = label, version.number
        row.feedback_target = None if target is None else list(target)

    async def _again(self, row: PredictionRow, claim: Claim) -> Revised:
        number = row.feedback_version
        assert number is not None
        async with self._shared.database.read() as session:
            found = await repository.get_version(session, row.tenant, row.task_id, number)
        if found is None:
            raise not_found()
        revised = Revised(task_answer(*found), found[0].revision)
        if claim.id is not None:
            async with self._shared.database.write() as session:
                if not await repository.share_task(session, row.tenant, row.task_id):
                    raise not_found()
                await claim.keep(session, 201, revised.task, revised.headers(), row.task_id)
        return revised


def _said(row: PredictionRow) -> Aim | None:
    """What was said that the query is."""
    if row.feedback is None:
        return None
    return row.feedback, None if row.feedback_target is None else tuple(row.feedback_target)


def _no_prediction() -> ProblemError:
    return fail("prediction_not_found", "There is no such prediction.")


def _lapsed() -> ProblemError:
    return fail("prediction_lapsed", "The prediction takes no feedback any more.")
