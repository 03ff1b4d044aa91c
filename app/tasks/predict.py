"""Queries to tasks and to support sets that are not kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from app.http.body import Body
from app.payloads.options import AskOptions
from app.payloads.responses import estimates, predictions
from app.serving.types import Answers
from app.tasks import prepare, schemas
from app.tasks.cache import Head
from app.tasks.dependencies import Shared
from app.tasks.feedback import Feedback
from app.tasks.prepare import Queries, Values
from hyperserve.types import Estimate, Notice, Prediction, Predictions, Timing
from models.artifact import Artifact
from models.predictive import Gaussian

LONG_ANSWER = 20_000
"""Probabilities, or numbers of targets, in an answer from which on making it would hold up other requests."""


class Asking:
    """Raises `ProblemError`, and what the engine raises."""

    def __init__(self, shared: Shared, feedback: Feedback) -> None:
        self._shared = shared
        self._feedback = feedback

    async def check(self, tenant: str, task: str, number: int | None) -> None:
        """Raises `ProblemError` 404 before a body is read."""
        await self._shared.head(tenant, task, number)

    async def predict(
        self, tenant: str, task: str, body: Body, options: schemas.PredictOptions, timing: Timing
    ) -> Predictions:
        shared = self._shared
        head = await shared.head(tenant, task, options.version)
        artifact = await shared.artifact(head.learner)
        asked, queries = await shared.decode(timing, prepare.predict, body, options, artifact, head)
        if queries.decoded is None:
            head = await shared.head(tenant, task, asked.version)
            queries = await shared.decode(timing, queries.decoded_by, artifact, head.shape)
        head, notices = await self._served(head, artifact, asked.version)
        answers = await shared.engine.predict(
            head.version,
            head.learner,
            queries.inputs.x,
            samples=asked.samples,
            regenerate=partial(shared.restorer.weights, head, artifact),
        )
        timing |= answers.timing
        found = await self._predictions(answers, queries, head.classes, asked)
        if asked.store:
            ids = await self._feedback.keep(head, queries.inputs.raws, found)
            found = [one.model_copy(update={"id": id}) for one, id in zip(found, ids, strict=True)]
        return Predictions(
            task=head.task,
            kind=head.kind,
            version=head.number,
            learner=head.learner,
            predictions=found,
            timing=timing,
            warnings=notices,
        )

    async def predict_once(
        self, body: Body, options: schemas.PredictOnceOptions, timing: Timing
    ) -> Predictions:
        """Nothing is stored."""
        shared = self._shared
        asked, prepared, queries = await shared.decode(
            timing, prepare.predict_once, body, options, shared.learners
        )
        name = prepared.artifact.name
        adapted = await shared.engine.adapt(name, prepared.support)
        answers = await shared.engine.predict_once(
            name, adapted.weights, queries.inputs.x, samples=asked.samples
        )
        for phase, spent in (*adapted.timing.items(), *answers.timing.items()):
            timing[phase] = timing.get(phase, 0.0) + spent
        found = await self._predictions(answers, queries, prepared.support.classes, asked)
        return Predictions(
            task=None,
            kind=asked.kind,
            version=None,
            learner=name,
            predictions=found,
            timing=timing,
            warnings=list(prepared.warnings),
        )

    async def _served(self, head: Head, artifact: Artifact, number: int | None) -> tuple[Head, list[Notice]]:
        """The version to ask. Where a release replaced the learner, that is another one."""
        if artifact.digest == head.learner_digest:
            return head, [] if head.instead_of is None else [_replaced(head)]
        heads = self._shared.heads
        with heads.reading(head.task) as reading:
            # Once more, so that no change is missed between that reading and this one.
            head = await self._shared.head(head.tenant, head.task, number)
            renewed = await self._shared.renewer.renew(head, artifact)
            heads.put(renewed, reading, number)
        return renewed, [_replaced(renewed)]

    async def _predictions(
        self, answers: Answers, queries: Queries, classes: Sequence[str], asked: AskOptions
    ) -> list[Prediction | Estimate]:
        predictive, work = answers.predictive, partial(_labelled, answers, classes, asked)
        width = len(classes)
        if isinstance(predictive, Gaussian):
            work = partial(_valued, predictive, queries.targets, asked)
            width = predictive.mean.shape[-1]
        if len(queries.sents) * width < LONG_ANSWER:
            return work()
        return await self._shared.off_loop(work)


def _labelled(answers: Answers, classes: Sequence[str], asked: AskOptions) -> list[Prediction | Estimate]:
    return [*predictions(answers.predictive, classes, coverage=asked.coverage, top=asked.top)]


def _valued(predictive: Gaussian, targets: Values | None, asked: AskOptions) -> list[Prediction | Estimate]:
    return [*estimates(predictive, coverage=asked.coverage, targets=targets)]


def _replaced(head: Head) -> Notice:
    detail = f"The learner was replaced: version {head.number} holds the same examples under the new one."
    return Notice(code="learner_replaced", detail=detail)
