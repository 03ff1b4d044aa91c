"""Predictions for queries to tasks, and for queries to support sets that are not stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from app.db.tenancy import Store
from app.http.body import Body
from app.payloads.options import AnswerOptions
from app.payloads.responses import estimates, predictions
from app.payloads.warnings import fit_warnings
from app.serving.engine_types import Answers
from app.tasks import prepare, schemas
from app.tasks.cache import TaskVersionRef
from app.tasks.feedback import FeedbackService
from app.tasks.function_family import misfit_warnings
from app.tasks.learner_migration import LearnerMigration
from app.tasks.prepare import PreparedQueries, QueryTargets
from app.tasks.resources import TaskResources, add_timing
from app.tasks.weights import VersionWeights
from hyperserve.types import Estimate, Notice, Prediction, Predictions
from models.artifact import Artifact
from models.predictive import Gaussian

LONG_ANSWER = 20_000
"""Probabilities, or numbers of targets, from which on making an answer would hold up other requests."""


@dataclass(frozen=True)
class PredictService:
    """Raises `ProblemError`, and what the engine raises."""

    resources: TaskResources
    store: Store

    async def check(self, task: str, number: int | None) -> None:
        """Raise `ProblemError` 404, before a body is read, if there is no such task or version."""
        await self.resources.versions.find(self.store, task, number)

    async def predict(self, task: str, body: Body, options: schemas.PredictOptions) -> Predictions:
        """Answer queries by a version of a task. If the options say so, store the queries and predictions."""
        ref = await self.resources.versions.find(self.store, task, options.version)
        artifact = await self.resources.artifact(ref.learner)
        (options, queries), decoding = await self.resources.decode(
            prepare.predict, body, options, artifact, ref
        )
        if queries.decoded is None:
            ref = await self.resources.versions.find(self.store, task, options.version)
            queries, more = await self.resources.decode(queries.decode, artifact, ref.shape)
            decoding = add_timing(decoding, more)
        ref, warnings = await self._migrated(ref, artifact, options.version)
        weights = VersionWeights(self.resources, self.store)
        answers = await self.resources.runtime.engine.predict(
            ref.version,
            ref.learner,
            queries.inputs.x,
            samples=options.samples,
            regenerate=partial(weights.load, ref, artifact),
        )
        found = await self._predictions(answers, queries, ref.classes, options)
        if options.store:
            feedback = FeedbackService(self.resources, self.store)
            ids = await feedback.store_predictions(ref, queries.inputs.raws, found)
            found = [one.model_copy(update={"id": id}) for one, id in zip(found, ids, strict=True)]
        return Predictions(
            task=ref.task,
            kind=ref.kind,
            version=ref.number,
            learner=ref.learner,
            predictions=found,
            fit=answers.fit,
            timing=add_timing(decoding, answers.timing),
            warnings=[*warnings, *fit_warnings(answers.fit), *queries.warnings],
        )

    async def predict_once(self, body: Body, options: schemas.PredictOnceOptions) -> Predictions:
        """Answer queries by a support set. Nothing is stored."""
        (options, prepared, queries), decoding = await self.resources.decode(
            prepare.predict_once, body, options, self.resources.learners
        )
        engine, name = self.resources.runtime.engine, prepared.artifact.name
        adapted = await engine.adapt(name, prepared.support)
        misfit = await misfit_warnings(engine, prepared.artifact, adapted.weights, prepared.support)
        answers = await engine.predict_once(name, adapted.weights, queries.inputs.x, samples=options.samples)
        found = await self._predictions(answers, queries, prepared.support.classes, options)
        return Predictions(
            task=None,
            kind=options.kind,
            version=None,
            learner=name,
            predictions=found,
            fit=answers.fit,
            timing=add_timing(decoding, adapted.timing, answers.timing),
            warnings=[*prepared.warnings, *misfit, *fit_warnings(answers.fit, "/support"), *queries.warnings],
        )

    async def _migrated(
        self, ref: TaskVersionRef, artifact: Artifact, number: int | None
    ) -> tuple[TaskVersionRef, list[Notice]]:
        """Return the version that answers: if a release replaced the learner, another one than `ref`."""
        if artifact.digest == ref.learner_digest:
            return ref, [] if ref.instead_of is None else [_learner_replaced(ref)]
        versions = self.resources.versions
        with versions.reading(ref.task) as read:
            # Found again, so that no change is missed between that reading and this one.
            ref = await versions.find(self.store, ref.task, number)
            migrated = await LearnerMigration(self.resources, self.store).migrate(ref, artifact)
            versions.put(migrated, read, number)
        return migrated, [_learner_replaced(migrated)]

    async def _predictions(
        self, answers: Answers, queries: PreparedQueries, classes: Sequence[str], options: AnswerOptions
    ) -> list[Prediction | Estimate]:
        predictive, work = answers.predictive, partial(_labelled, answers, classes, options)
        width = len(classes)
        if isinstance(predictive, Gaussian):
            work = partial(_estimated, predictive, queries.targets, options)
            width = predictive.mean.shape[-1]
        if len(queries.submitted) * width < LONG_ANSWER:
            return work()
        return await self.resources.runtime.in_decoder(work)


def _labelled(
    answers: Answers, classes: Sequence[str], options: AnswerOptions
) -> list[Prediction | Estimate]:
    return [*predictions(answers.predictive, classes, coverage=options.coverage, top=options.top)]


def _estimated(
    predictive: Gaussian, targets: QueryTargets | None, options: AnswerOptions
) -> list[Prediction | Estimate]:
    return [*estimates(predictive, coverage=options.coverage, targets=targets)]


def _learner_replaced(ref: TaskVersionRef) -> Notice:
    detail = f"The learner was replaced: version {ref.number} has the same examples under the new learner."
    return Notice(code="learner_replaced", detail=detail)
