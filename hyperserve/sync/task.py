# Generated from hyperserve/aio/task.py by `python -m tools.make_sync`: change that file, not this one.
"""One task: predictions, feedback, examples and versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import PrivateAttr

from hyperserve import inputs, types
from hyperserve.errors import InvalidArgumentError
from hyperserve.query_batches import OnProgress, QueryBatches
from hyperserve.requests import Request, encode, id_of, label_or_target_body, path, support_body
from hyperserve.retries import decode
from hyperserve.sync import io
from hyperserve.sync.pages import Pages
from hyperserve.sync.predict import predict
from hyperserve.sync.transport import Transport
from hyperserve.types import LABEL_FIRST


class Prediction(types.Prediction):
    """The answer to one query. `label` is the most probable class whatever `unknown` says."""

    _transport: Transport = PrivateAttr()

    def feedback(self, label: inputs.Label) -> Task:
        """Add this query to the task under `label`, an existing class or a new one, and return the updated task.

        A second call with another label corrects the first. Raises InvalidArgumentError unless the prediction was
        stored, GoneError once it has expired.
        """
        if self.id is None:
            raise InvalidArgumentError("the prediction was not stored: call predict(..., store=True)")
        return feedback(self._transport, self.id, label, "classification")


class Estimate(types.Estimate):
    """The answer to one query of a regression task: a Gaussian for each number of the target."""

    _transport: Transport = PrivateAttr()

    def feedback(self, target: inputs.Target) -> Task:
        """Add this query to the task with its target, a number or a list of numbers, and return the updated task.

        A second call with another target corrects the first. Raises the errors of `Prediction.feedback`.
        """
        if self.id is None:
            raise InvalidArgumentError("the prediction was not stored: call predict(..., store=True)")
        return feedback(self._transport, self.id, target, "regression")


class Predictions(types.Predictions):
    """One prediction per query, in order; estimates if `kind` is regression."""

    predictions: list[Annotated[Prediction | Estimate, LABEL_FIRST]]  # type: ignore[assignment]  # read only

    def bind(self, transport: Transport) -> Predictions:
        """Attach the transport that feedback uses, and return these predictions."""
        for prediction in self.predictions:
            prediction._transport = transport
        return self


class Task(types.Task):
    """A task, with methods to query and to change it.

    Its fields are a snapshot: a change returns another `Task` and leaves this one as it is.
    With `if_unchanged` a change raises PreconditionFailedError if the task has changed since it was read.
    """

    _transport: Transport = PrivateAttr()
    _etag: str | None = PrivateAttr(default=None)

    def bind(self, transport: Transport, etag: str | None = None) -> Task:
        """Attach the transport that the methods use, and return this task."""
        self._transport = transport
        self._etag = etag
        return self

    def predict(
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
    ) -> Predictions:
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
        batches = io.in_thread(QueryBatches.of, where, queries, fields, targets=targets, params=params)
        answer = predict(self._transport, Predictions, batches, _to_one_version, on_progress)
        return answer.bind(self._transport)

    def add(self, support: inputs.Support, *, promote: bool = True, if_unchanged: bool = False) -> Task:
        """Add examples of existing or new classes, or with targets, and return the new version.

        promote: make the new version the current one. Raises the errors of `tasks.create`.
        """
        headers = self._condition(if_unchanged)
        body = io.in_thread(support_body, support, self.kind)
        where = path("tasks", self.id, "support")
        return fetch_task(self._transport, Request.creation(where, body, _promote_param(promote), headers))

    def relabel(
        self,
        example: types.Example | str,
        label: inputs.Label | inputs.Target,
        *,
        promote: bool = True,
        if_unchanged: bool = False,
    ) -> Task:
        """Change the label of an example, or its target in a regression task, and return the new version."""
        body = label_or_target_body(label, self.kind)
        return self._edit("PATCH", id_of(example), body, promote, if_unchanged)

    def remove(
        self, example: types.Example | str, *, promote: bool = True, if_unchanged: bool = False
    ) -> Task:
        """Remove an example and return the new version. A class disappears with its last example."""
        return self._edit("DELETE", id_of(example), None, promote, if_unchanged)

    def support(self, *, version: int | None = None, limit: int | None = None) -> Pages[types.Example]:
        """Return the examples of a version, by default the current one."""
        where = path("tasks", self.id, "support")
        return Pages(self._transport, types.Page[types.Example], where, limit, {"version": version})

    def versions(self, *, limit: int | None = None) -> Pages[types.Version]:
        """Return the versions of the task, newest first."""
        where = path("tasks", self.id, "versions")
        return Pages(self._transport, types.Page[types.Version], where, limit)

    def promote(self, version: types.Version | int, *, if_unchanged: bool = False) -> Task:
        """Make another version, newer or older, the current one, and return the task as it is now."""
        number = version if isinstance(version, int) else version.number
        where = path("tasks", self.id, "current")
        return self._set("PUT", where, {"version": number}, if_unchanged)

    def rename(self, name: str | None, *, if_unchanged: bool = False) -> Task:
        """Change the name of the task, or remove it with None, and return the task as it is now."""
        return self._set("PATCH", path("tasks", self.id), {"name": name}, if_unchanged)

    def refresh(self) -> Task:
        """Return this task as it is now. Raises NotFoundError if it has been deleted."""
        return fetch_task(self._transport, Request("GET", path("tasks", self.id)))

    def delete(self, *, if_unchanged: bool = False) -> None:
        """Delete the task and its examples. Raises NotFoundError if it has been deleted already."""
        headers = self._condition(if_unchanged)
        where = path("tasks", self.id)
        self._transport.send(Request("DELETE", where, headers=headers, repeatable=False))

    def _set(self, method: str, where: str, fields: dict[str, str | int | None], if_unchanged: bool) -> Task:
        headers = self._condition(if_unchanged)
        # With If-Match, a second attempt would fail because of the first.
        request = Request(method, where, body=encode(fields), headers=headers, repeatable=not headers)
        return fetch_task(self._transport, request)

    def _edit(self, method: str, example: str, body: bytes | None, promote: bool, if_unchanged: bool) -> Task:
        where = path("tasks", self.id, "support", example)
        headers = self._condition(if_unchanged)
        request = Request(method, where, _promote_param(promote), body, headers, repeatable=False)
        return fetch_task(self._transport, request)

    def _condition(self, if_unchanged: bool) -> dict[str, str]:
        if not if_unchanged:
            return {}
        if self._etag is None:
            raise InvalidArgumentError("a task from a list has no ETag: call refresh() first")
        return {"If-Match": self._etag}


def fetch_task(transport: Transport, request: Request) -> Task:
    """Send a request and return its task, with the ETag that `if_unchanged` compares."""
    response = transport.send(request)
    return decode(Task, request, response.content).bind(transport, response.headers.get("etag"))


def feedback(
    transport: Transport,
    prediction: str,
    answer: inputs.Label | inputs.Target,
    kind: types.TaskKind | None = None,
) -> Task:
    """Send the right answer to the query of a stored prediction, and return the updated task."""
    where = path("predictions", prediction, "feedback")
    return fetch_task(transport, Request.creation(where, label_or_target_body(answer, kind)))


def _to_one_version(queries: QueryBatches, first: Predictions) -> QueryBatches:
    return queries.with_param("version", first.version)


def _promote_param(promote: bool) -> dict[str, bool | None]:
    """Return the query parameter; left out, the server promotes."""
    return {"promote": None if promote else False}
