# Made from hyperserve/aio/task.py by `python -m tools.make_sync`: change that file, not this one.
"""One task and its answers: asking, teaching, choosing a version."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import PrivateAttr

from hyperserve import inputs, types
from hyperserve.requests import Request, answer_body, encode, identity, path, query_body, support_body
from hyperserve.retries import decode
from hyperserve.sync import io
from hyperserve.sync.pages import Pages
from hyperserve.sync.transport import Transport
from hyperserve.types import LABEL_FIRST


class Prediction(types.Prediction):
    """The answer to one query. `label` is the most probable class whatever `unknown` says."""

    _transport: Transport = PrivateAttr()

    def feedback(self, label: str) -> Task:
        """Teach the task what this query was, `label` being of any class, old or new; the task as it is now.

        Again with another label corrects the first. Raises ValueError unless the prediction was stored,
        GoneError once it has lapsed.
        """
        if self.id is None:
            raise ValueError("the prediction was not stored: ask with predict(..., store=True)")
        return feedback(self._transport, self.id, label)


class Estimate(types.Estimate):
    """The answer to one query of a regression task: a Gaussian for each number of the target."""

    _transport: Transport = PrivateAttr()

    def feedback(self, target: inputs.Target) -> Task:
        """Teach the task what this query is answered by, a number or a list of them; the task as it is now.

        Again with another target corrects the first. Raises as `Prediction.feedback` does.
        """
        if self.id is None:
            raise ValueError("the prediction was not stored: ask with predict(..., store=True)")
        return feedback(self._transport, self.id, target)


class Predictions(types.Predictions):
    """One prediction per query, in order: all estimates where `kind` is regression, else none."""

    predictions: list[Annotated[Prediction | Estimate, LABEL_FIRST]]  # type: ignore[assignment]  # read only

    def bind(self, transport: Transport) -> Predictions:
        """These predictions, giving feedback through `transport`."""
        for prediction in self.predictions:
            prediction._transport = transport
        return self


class Task(types.Task):
    """A support set that became weights, and the way to ask and to teach it.

    It is what the server said once: a change gives another `Task` and leaves this one as it was.
    With `if_unchanged` a change raises PreconditionFailedError where the task is not as it was read.
    """

    _transport: Transport = PrivateAttr()
    _etag: str | None = PrivateAttr(default=None)

    def bind(self, transport: Transport, etag: str | None = None) -> Task:
        """This task, answering through `transport`."""
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
    ) -> Predictions:
        """One prediction per query, in order.

        coverage: what prediction sets aim at, in (0, 1), and intervals; samples: of the posterior, for
        stochastic learners; top: keep only this many probabilities; version: ask this one, not the current one;
        store: keep the queries for a while, so that the predictions take feedback; targets: of a regression
        task, the right answers, for their `nll`. Left out, the server's defaults hold.
        Raises TypeError or ValueError naming the query, HyperserveError.
        """
        body = io.off_loop(
            query_body, queries, targets, coverage=coverage, samples=samples, top=top, store=store
        )
        request = Request("POST", path("tasks", self.id, "predict"), {"version": version}, body)
        answer = self._transport.fetch(Predictions, request)
        return answer.bind(self._transport)

    def add(self, support: inputs.Support, *, promote: bool = True, if_unchanged: bool = False) -> Task:
        """Add examples, of old classes or new ones, or with targets; the new version.

        promote: make it the one that answers. Raises as `tasks.create` does.
        """
        headers = self._condition(if_unchanged)
        body = io.off_loop(support_body, support)
        where = path("tasks", self.id, "support")
        return fetch_task(self._transport, Request.creation(where, body, _promoted(promote), headers))

    def relabel(
        self,
        example: types.Example | str,
        label: str | inputs.Target,
        *,
        promote: bool = True,
        if_unchanged: bool = False,
    ) -> Task:
        """Give an example another label, or another target in a regression task; the new version."""
        body = answer_body(label)
        return self._edit("PATCH", identity(example), body, promote, if_unchanged)

    def remove(
        self, example: types.Example | str, *, promote: bool = True, if_unchanged: bool = False
    ) -> Task:
        """Take an example out; the new version. A class goes with its last example."""
        return self._edit("DELETE", identity(example), None, promote, if_unchanged)

    def support(self, *, version: int | None = None, limit: int | None = None) -> Pages[types.Example]:
        """The examples of a version, the current one when none is named."""
        where = path("tasks", self.id, "support")
        return Pages(self._transport, types.Page[types.Example], where, limit, {"version": version})

    def versions(self, *, limit: int | None = None) -> Pages[types.Version]:
        """Every support set the task has had, newest first."""
        where = path("tasks", self.id, "versions")
        return Pages(self._transport, types.Page[types.Version], where, limit)

    def promote(self, version: types.Version | int, *, if_unchanged: bool = False) -> Task:
        """Make a version the one that answers, be it newer or older; the task as it is now."""
        number = version if isinstance(version, int) else version.number
        where = path("tasks", self.id, "current")
        return self._set("PUT", where, {"version": number}, if_unchanged)

    def rename(self, name: str | None, *, if_unchanged: bool = False) -> Task:
        """Give the task another name, or none; the task as it is now."""
        return self._set("PATCH", path("tasks", self.id), {"name": name}, if_unchanged)

    def refresh(self) -> Task:
        """This task as the server has it now. Raises NotFoundError when it is gone."""
        return fetch_task(self._transport, Request("GET", path("tasks", self.id)))

    def delete(self, *, if_unchanged: bool = False) -> None:
        """Remove the task and its examples. Raises NotFoundError when it is gone."""
        headers = self._condition(if_unchanged)
        where = path("tasks", self.id)
        self._transport.send(Request("DELETE", where, headers=headers, repeatable=False))

    def _set(self, method: str, where: str, fields: dict[str, str | int | None], if_unchanged: bool) -> Task:
        headers = self._condition(if_unchanged)
        # With a condition, a second attempt would be refused because of the first.
        request = Request(method, where, body=encode(fields), headers=headers, repeatable=not headers)
        return fetch_task(self._transport, request)

    def _edit(self, method: str, example: str, body: bytes | None, promote: bool, if_unchanged: bool) -> Task:
        where = path("tasks", self.id, "support", example)
        headers = self._condition(if_unchanged)
        request = Request(method, where, _promoted(promote), body, headers, repeatable=False)
        return fetch_task(self._transport, request)

    def _condition(self, if_unchanged: bool) -> dict[str, str]:
        if not if_unchanged:
            return {}
        if self._etag is None:
            raise ValueError("the task comes from a list, which tells no state: refresh() it first")
        return {"If-Match": self._etag}


def fetch_task(transport: Transport, request: Request) -> Task:
    """The task that a request answers, with the state to which `if_unchanged` refers."""
    response = transport.send(request)
    return decode(Task, request, response.content).bind(transport, response.headers.get("etag"))


def feedback(transport: Transport, prediction: str, right: str | inputs.Target) -> Task:
    """Teach the task of a stored prediction what its query was."""
    where = path("predictions", prediction, "feedback")
    return fetch_task(transport, Request.creation(where, answer_body(right)))


def _promoted(promote: bool) -> dict[str, bool | None]:
    """The server promotes unless told otherwise."""
    return {"promote": None if promote else False}
