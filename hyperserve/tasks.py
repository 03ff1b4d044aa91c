"""Tasks on a server: create, look up, query, delete."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from pydantic import PrivateAttr

from hyperserve import inputs, types
from hyperserve.transport import Transport

_PAGE = 200


class Task(types.Task):
    """A support set that became weights, and the way to ask it."""

    _transport: Transport = PrivateAttr()

    def bind(self, transport: Transport) -> Task:
        """This task, answering through `transport`."""
        self._transport = transport
        return self

    def predict(
        self,
        queries: Iterable[inputs.Input],
        *,
        coverage: float | None = None,
        samples: int | None = None,
        top: int | None = None,
    ) -> types.Predictions:
        """One prediction per query, in order.

        coverage: what prediction sets aim at, in (0, 1); samples: of the posterior, for stochastic learners;
        top: keep only this many probabilities. Left out, the server's defaults hold.
        Raises TypeError or ValueError naming the query, HyperserveError.
        """
        body = query_body(queries, coverage=coverage, samples=samples, top=top)
        return self._transport.fetch(types.Predictions, "POST", f"{_path(self.id)}/predict", json=body)

    def refresh(self) -> Task:
        """This task as the server has it now. Raises NotFoundError when it is gone."""
        return self._transport.fetch(Task, "GET", _path(self.id)).bind(self._transport)

    def delete(self) -> None:
        """Remove the task and its examples. Raises NotFoundError when it is gone."""
        Tasks(self._transport).delete(self.id)


class Tasks:
    """`client.tasks`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, support: inputs.Support, *, learner: str | None = None, name: str | None = None) -> Task:
        """Make a task of labelled examples: {"cat": [input, ...], ...} or (input, label) pairs.

        Without `learner` the server's default for the kind of input is taken.
        Raises TypeError or ValueError naming the class and the example, HyperserveError. Tried again only
        where the server cannot have made the task already.
        """
        body = support_body(support, learner) | ({} if name is None else {"name": name})
        task = self._transport.fetch(Task, "POST", "/v1/tasks", json=body, repeatable=False)
        return task.bind(self._transport)

    def get(self, task_id: str) -> Task:
        """Raises NotFoundError."""
        return self._transport.fetch(Task, "GET", _path(task_id)).bind(self._transport)

    def delete(self, task_id: str) -> None:
        """Raises NotFoundError."""
        self._transport.send("DELETE", _path(task_id), repeatable=False)

    def list(self, limit: int | None = None) -> builtins.list[Task]:
        """The tasks of the server, newest first; all of them unless `limit` is given."""
        found: list[Task] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            params = {"limit": size, "cursor": cursor}
            page = self._transport.fetch(types.Page[Task], "GET", "/v1/tasks", params=params)
            found += [task.bind(self._transport) for task in page.items]
            cursor = page.next_cursor
            if cursor is None or not page.items:
                break
        return found


def support_body(support: inputs.Support, learner: str | None) -> dict[str, Any]:
    """The fields of a request that carries a support set."""
    return ({} if learner is None else {"learner": learner}) | {"support": inputs.support(support)}


def query_body(queries: Iterable[inputs.Input], **options: float | None) -> dict[str, Any]:
    """The fields of a request that carries queries; options that are None are left to the server."""
    chosen = {name: value for name, value in options.items() if value is not None}
    return {"queries": inputs.queries(queries)} | chosen


def _path(task_id: str) -> str:
    if not task_id:
        raise ValueError("a task id is needed")
    return f"/v1/tasks/{quote(task_id, safe='')}"
