"""One task: predictions, feedback, examples and versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import PrivateAttr

from hyperserve import inputs, types
from hyperserve.aio import io
from hyperserve.aio.pages import AsyncPages
from hyperserve.aio.predict import predict
from hyperserve.aio.transport import AsyncTransport
from hyperserve.errors import InvalidArgumentError
from hyperserve.query_batches import OnProgress, QueryBatches
from hyperserve.requests import Request, encode, id_of, label_or_target_body, path, support_body
from hyperserve.retries import decode
from hyperserve.types import LABEL_FIRST


class AsyncPrediction(types.Prediction):
    """The answer to one query. `label` is the most probable class whatever `unknown` says."""

    _transport: AsyncTransport = PrivateAttr()

    async def feedback(self, label: inputs.Label) -> AsyncTask:
        """Add this query to the task under `label`, an existing class or a new one, and return the updated task.

        A second call with another label corrects the first. Raises InvalidArgumentError unless the prediction was
        stored, GoneError once it has expired.
        """
        if self.id is None:
            raise InvalidArgumentError("the prediction was not stored: call predict(..., store=True)")
        return await feedback(self._transport, self.id, label, "classification")


class AsyncEstimate(types.Estimate):
    """The answer to one query of a regression task: a Gaussian for each number of the target."""

    _transport: AsyncTransport = PrivateAttr()

    async def feedback(self, target: inputs.Target) -> AsyncTask:
        """Add this query to the task with its target, a number or a list of numbers, and return the updated task.

        A second call with another target corrects the first. Raises the errors of `AsyncPrediction.feedback`.
        """
        if self.id is None:
            raise InvalidArgumentError("the prediction was not stored: call predict(..., store=True)")
        return await feedback(self._transport, self.id, target, "regression")


class AsyncPredictions(types.Predictions):
    """One prediction per query, in order; estimates if `kind` is regression."""

    predictions: list[Annotated[AsyncPrediction | AsyncEstimate, LABEL_FIRST]]  # type: ignore[assignment]  # read only

    def bind(self, transport: AsyncTransport) -> AsyncPredictions:
        """Attach the transport that feedback uses, and return these predictions."""
        for prediction in self.predictions:
            prediction._transport = transport
        return self


class AsyncTask(types.Task):
    """A task, with methods to query and to change it.

    Its fields are a snapshot: a change returns another `AsyncTask` and leaves this one as it is.
    With `if_unchanged` a change raises PreconditionFailedError if the task has changed since it was read.
    """

    _transport: AsyncTransport = PrivateAttr()
    _etag: str | None = PrivateAttr(default=None)

    def bind(self, transport: AsyncTransport, etag: str | None = None) -> AsyncTask:
        """Attach the transport that the methods use, and return this task."""
        self._transport = transport
        self._etag = etag
        return self

    async def predict(
        self,
        queries: Iterable[inputs.Input],
        *,
        coverage: float | None = None,
        samples: int | None = None,
        top: int | None = None,
        version: int | None = None,
        store: bool | None = None,
        targets: Iterable[inputs.Target] | None = None,
        on_progress: OnProgress | None = None,
    ) -> AsyncPredictions:
        """Return one prediction per query, in order.

        More queries than the server takes at once are sent in several requests, some at a time, to one version.

        coverage: coverage of prediction sets and intervals, in (0, 1); samples: number of posterior samples of a
        stochastic learner; top: keep only this many probabilities; version: the version to query, by default the
        current one; store: store the queries for a while so that the predictions accept feedback; targets: the true
        targets of a regression task, for `nll`; on_progress: called with the numbers of answered and of all queries
        after each request. Arguments left out take the server's defaults.
        Raises InvalidArgumentError naming the query, HyperserveError.
        """
        where, params = path("tasks", self.id, "predict"), {"version": version}
        fields = {"coverage": coverage, "samples": samples, "top": top, "store": store}
        batches = await io.in_thread(QueryBatches.of, where, queries, fields, targets=targets, params=params)
        answer = await predict(self._transport, AsyncPredictions, batches, _to_one_version, on_progress)
        return answer.bind(self._transport)

    async def add(
        self, support: inputs.Support, *, promote: bool = True, if_unchanged: bool = False
    ) -> AsyncTask:
        """Add examples of existing or new classes, or with targets, and return the new version.

        promote: make the new version the current one. Raises the errors of `tasks.create`.
        """
        headers = self._condition(if_unchanged)
        body = await io.in_thread(support_body, support, self.kind)
        where = path("tasks", self.id, "support")
        return await fetch_task(
            self._transport, Request.creation(where, body, _promote_param(promote), headers)
        )

    async def relabel(
        self,
        example: types.Example | str,
        label: inputs.Label | inputs.Target,
        *,
        promote: bool = True,
        if_unchanged: bool = False,
    ) -> AsyncTask:
        """Change the label of an example, or its target in a regression task, and return the new version."""
        body = label_or_target_body(label, self.kind)
        return await self._edit("PATCH", id_of(example), body, promote, if_unchanged)

    async def remove(
        self, example: types.Example | str, *, promote: bool = True, if_unchanged: bool = False
    ) -> AsyncTask:
        """Remove an example and return the new version. A class disappears with its last example."""
        return await self._edit("DELETE", id_of(example), None, promote, if_unchanged)

    def support(self, *, version: int | None = None, limit: int | None = None) -> AsyncPages[types.Example]:
        """Return the examples of a version, by default the current one."""
        where = path("tasks", self.id, "support")
        return AsyncPages(self._transport, types.Page[types.Example], where, limit, {"version": version})

    def versions(self, *, limit: int | None = None) -> AsyncPages[types.Version]:
        """Return the versions of the task, newest first."""
        where = path("tasks", self.id, "versions")
        return AsyncPages(self._transport, types.Page[types.Version], where, limit)

    async def promote(self, version: types.Version | int, *, if_unchanged: bool = False) -> AsyncTask:
        """Make another version, newer or older, the current one, and return the task as it is now."""
        number = version if isinstance(version, int) else version.number
        where = path("tasks", self.id, "current")
        return await self._set("PUT", where, {"version": number}, if_unchanged)

    async def rename(self, name: str | None, *, if_unchanged: bool = False) -> AsyncTask:
        """Change the name of the task, or remove it with None, and return the task as it is now."""
        return await self._set("PATCH", path("tasks", self.id), {"name": name}, if_unchanged)

    async def refresh(self) -> AsyncTask:
        """Return this task as it is now. Raises NotFoundError if it has been deleted."""
        return await fetch_task(self._transport, Request("GET", path("tasks", self.id)))

    async def delete(self, *, if_unchanged: bool = False) -> None:
        """Delete the task and its examples. Raises NotFoundError if it has been deleted already."""
        headers = self._condition(if_unchanged)
        where = path("tasks", self.id)
        await self._transport.send(Request("DELETE", where, headers=headers, repeatable=False))

    async def _set(
        self, method: str, where: str, fields: dict[str, str | int | None], if_unchanged: bool
    ) -> AsyncTask:
        headers = self._condition(if_unchanged)
        # With If-Match, a second attempt would fail because of the first.
        request = Request(method, where, body=encode(fields), headers=headers, repeatable=not headers)
        return await fetch_task(self._transport, request)

    async def _edit(
        self, method: str, example: str, body: bytes | None, promote: bool, if_unchanged: bool
    ) -> AsyncTask:
        where = path("tasks", self.id, "support", example)
        headers = self._condition(if_unchanged)
        request = Request(method, where, _promote_param(promote), body, headers, repeatable=False)
        return await fetch_task(self._transport, request)

    def _condition(self, if_unchanged: bool) -> dict[str, str]:
        if not if_unchanged:
            return {}
        if self._etag is None:
            raise InvalidArgumentError("a task from a list has no ETag: call refresh() first")
        return {"If-Match": self._etag}


async def fetch_task(transport: AsyncTransport, request: Request) -> AsyncTask:
    """Send a request and return its task, with the ETag that `if_unchanged` compares."""
    response = await transport.send(request)
    return decode(AsyncTask, request, response.content).bind(transport, response.headers.get("etag"))


async def feedback(
    transport: AsyncTransport,
    prediction: str,
    answer: inputs.Label | inputs.Target,
    kind: types.TaskKind | None = None,
) -> AsyncTask:
    """Send the right answer to the query of a stored prediction, and return the updated task."""
    where = path("predictions", prediction, "feedback")
    return await fetch_task(transport, Request.creation(where, label_or_target_body(answer, kind)))


def _to_one_version(queries: QueryBatches, first: AsyncPredictions) -> QueryBatches:
    return queries.with_param("version", first.version)


def _promote_param(promote: bool) -> dict[str, bool | None]:
    """Return the query parameter; left out, the server promotes."""
    return {"promote": None if promote else False}
