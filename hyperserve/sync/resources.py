# Made from hyperserve/aio/resources.py by `python -m tools.make_sync`: change that file, not this one.
"""Collections of a server: tasks, learners, datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperserve import inputs, types, uploads
from hyperserve.requests import Request, encode, given, identity, path, span, support_body
from hyperserve.sync import io
from hyperserve.sync.pages import Pages
from hyperserve.sync.task import Task, fetch_task
from hyperserve.sync.transport import Transport


class Tasks:
    """`client.tasks`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        support: inputs.Support,
        *,
        kind: types.TaskKind | None = None,
        learner: str | None = None,
        name: str | None = None,
    ) -> Task:
        """Make a task of labelled examples: {"cat": [input, ...], ...} or (input, label) pairs.

        kind: "regression" for (input, target) pairs, whose targets are numbers or lists of numbers.
        Without `learner` the server's default for the kind of input, or for regression, is taken.
        Raises TypeError or ValueError naming the class and the example, HyperserveError.
        """
        body = io.off_loop(support_body, support, kind=kind, learner=learner, name=name)
        return fetch_task(self._transport, Request.creation("/v1/tasks", body))

    def get(self, task_id: str, *, version: int | None = None) -> Task:
        """A task, as it is or as one of its versions has it. Raises NotFoundError."""
        return fetch_task(self._transport, Request("GET", path("tasks", task_id), {"version": version}))

    def delete(self, task_id: str) -> None:
        """Raises NotFoundError."""
        self._transport.send(Request("DELETE", path("tasks", task_id), repeatable=False))

    def list(self, limit: int | None = None) -> Pages[Task]:
        """The tasks of the server, newest first; all of them unless `limit` is given."""

        def bind(task: Task) -> Task:
            return task.bind(self._transport)

        return Pages(self._transport, types.Page[Task], "/v1/tasks", limit, bind=bind)


class Learners:
    """`client.learners`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        name: str,
        *,
        dataset: types.Dataset | str,
        method: str | None = None,
        encoder: str | None = None,
        hparams: Mapping[str, Any] | None = None,
        ways: tuple[int, int] | int | None = None,
        shots: tuple[int, int] | int | None = None,
        queries: int | None = None,
        steps: int | None = None,
        seed: int | None = None,
    ) -> types.Training:
        """Meta-train a learner on a dataset; it serves under `name` when its job has succeeded.

        ways, shots: (fewest, most) classes of an episode and examples of a class, or one number; queries: of
        each class; steps: of training. Left out, the server's defaults hold. Raises HyperserveError.

            training = client.learners.create("mine", dataset=dataset, steps=2000)
            client.jobs.wait(training.job, on_progress=print)
        """
        fields = {
            "name": name,
            "dataset": identity(dataset),
            "method": method,
            "encoder": encoder,
            "hparams": hparams,
            "ways": span(ways),
            "shots": span(shots),
            "queries": queries,
            "steps": steps,
            "seed": seed,
        }
        request = Request.creation("/v1/learners", encode(given(fields)))
        return self._transport.fetch(types.Training, request)

    def get(self, name: str) -> types.LearnerCard:
        """One learner with its model card. Raises NotFoundError."""
        return self._transport.fetch(types.LearnerCard, Request("GET", path("learners", name)))

    def list(self, limit: int | None = None) -> Pages[types.Learner]:
        """The learners the server has or is training, their traits and measured metrics."""
        return Pages(self._transport, types.Page[types.Learner], "/v1/learners", limit)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a learner that was trained here; stop its training if need be.

        force: even where tasks use it. Raises NotFoundError, and ConflictError for one in use or bundled.
        """
        params = {"force": True if force else None}
        self._transport.send(Request("DELETE", path("learners", name), params, repeatable=False))


class Datasets:
    """`client.datasets`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self, source: str | Path, *, name: str | None = None, content_type: str | None = None
    ) -> types.Dataset:
        """Send a labelled set to train learners on, from disk, however large.

        source: a .zip of class folders, an .npz, a .csv of vectors, or a folder of class folders, which is
        zipped on the way; content_type: where the suffix does not tell.
        Raises ValueError for what is none of these, HyperserveError.
        """
        upload = io.off_loop(uploads.prepare, source, content_type)
        try:
            request = Request.creation("/v1/datasets", upload, {"name": name})
            return self._transport.fetch(types.Dataset, request)
        finally:
            upload.discard()

    def get(self, dataset_id: str) -> types.Dataset:
        """Raises NotFoundError."""
        return self._transport.fetch(types.Dataset, Request("GET", path("datasets", dataset_id)))

    def list(self, limit: int | None = None) -> Pages[types.Dataset]:
        """The datasets of the server, newest first."""
        return Pages(self._transport, types.Page[types.Dataset], "/v1/datasets", limit)

    def delete(self, dataset: types.Dataset | str) -> None:
        """Raises NotFoundError, and ConflictError while a training needs it."""
        where = path("datasets", identity(dataset))
        self._transport.send(Request("DELETE", where, repeatable=False))
