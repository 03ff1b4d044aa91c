"""Collections of the server: tasks, learners, datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperserve import inputs, types, uploads
from hyperserve.aio import io
from hyperserve.aio.pages import AsyncPages
from hyperserve.aio.task import AsyncTask, fetch_task
from hyperserve.aio.transport import AsyncTransport
from hyperserve.requests import Request, encode, id_of, path, span, support_body, without_none


class AsyncTasks:
    """`client.tasks`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        support: inputs.Support,
        *,
        kind: types.TaskKind | None = None,
        learner: str | None = None,
        name: str | None = None,
    ) -> AsyncTask:
        """Create a task from labelled examples: {"cat": [input, ...], ...} or (input, label) pairs.

        A whole number as label is sent, and answered, as its decimal string.

        kind: "regression" for (input, target) pairs, whose targets are numbers or lists of numbers; learner: by
        default the server's choice for the kind of input, or for regression.
        Raises InvalidArgumentError naming the class and the example, HyperserveError.
        """
        body = await io.in_thread(support_body, support, kind=kind, learner=learner, name=name)
        return await fetch_task(self._transport, Request.creation("/v1/tasks", body))

    async def get(self, task_id: str, *, version: int | None = None) -> AsyncTask:
        """Return a task as it is now, or as it was in one of its versions. Raises NotFoundError."""
        return await fetch_task(self._transport, Request("GET", path("tasks", task_id), {"version": version}))

    async def delete(self, task_id: str) -> None:
        """Delete a task with its examples. Raises NotFoundError."""
        await self._transport.send(Request("DELETE", path("tasks", task_id), repeatable=False))

    def list(self, limit: int | None = None) -> AsyncPages[AsyncTask]:
        """Return the tasks of the server, newest first, at most `limit` of them."""

        def bind(task: AsyncTask) -> AsyncTask:
            return task.bind(self._transport)

        return AsyncPages(self._transport, types.Page[AsyncTask], "/v1/tasks", limit, bind=bind)


class AsyncLearners:
    """`client.learners`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
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
        """Start a job that meta-trains a learner on a dataset; the learner is served once the job has succeeded.

        ways, shots: (fewest, most) classes per episode and examples per class, or one number; queries: queries per
        class; steps: training steps. Arguments left out take the server's defaults. Raises HyperserveError.

            training = await client.learners.create("mine", dataset=dataset, steps=2000)
            await client.jobs.wait(training.job, on_progress=print)
        """
        fields = {
            "name": name,
            "dataset": id_of(dataset),
            "method": method,
            "encoder": encoder,
            "hparams": hparams,
            "ways": span(ways),
            "shots": span(shots),
            "queries": queries,
            "steps": steps,
            "seed": seed,
        }
        request = Request.creation("/v1/learners", encode(without_none(fields)))
        return await self._transport.fetch(types.Training, request)

    async def get(self, name: str) -> types.LearnerCard:
        """Return one learner with its model card. Raises NotFoundError."""
        return await self._transport.fetch(types.LearnerCard, Request("GET", path("learners", name)))

    def list(self, limit: int | None = None) -> AsyncPages[types.Learner]:
        """Return the learners that the server has or is training, with traits and measured metrics."""
        return AsyncPages(self._transport, types.Page[types.Learner], "/v1/learners", limit)

    async def delete(self, name: str, *, force: bool = False) -> None:
        """Delete a learner that was trained on the server, and cancel its training if it still runs.

        force: delete it even if tasks use it. Raises NotFoundError, and ConflictError if it is in use or bundled.
        """
        params = {"force": True if force else None}
        await self._transport.send(Request("DELETE", path("learners", name), params, repeatable=False))


class AsyncDatasets:
    """`client.datasets`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def upload(
        self,
        source: str | Path,
        *,
        name: str | None = None,
        content_type: str | None = None,
        label: str | int | None = None,
        skip_bad: bool = False,
    ) -> types.Dataset:
        """Upload a labelled dataset of any size, streamed from disk.

        source: a .zip of class folders, an .npz, a .csv of vectors, or a folder of class folders, which is zipped
        into a temporary file; content_type: the media type, if the suffix does not tell it; label: the column of a
        .csv that holds the labels, by name or by position from 0, or the array of an .npz, if the server does not
        find it; skip_bad: leave out images that cannot be decoded. `reading` of the answer shows which columns or
        arrays were used, `warnings` what was left out or converted.
        Raises InvalidArgumentError for any other source, HyperserveError.
        """
        upload = await io.in_thread(uploads.prepare, source, content_type)
        params = {"name": name, "label": label, "skip_bad": skip_bad or None}
        try:
            request = Request.creation("/v1/datasets", upload, params)
            return upload.with_left_out(await self._transport.fetch(types.Dataset, request))
        finally:
            upload.discard()

    async def get(self, dataset_id: str) -> types.Dataset:
        """Return a dataset. Raises NotFoundError."""
        return await self._transport.fetch(types.Dataset, Request("GET", path("datasets", dataset_id)))

    def list(self, limit: int | None = None) -> AsyncPages[types.Dataset]:
        """Return the datasets of the server, newest first."""
        return AsyncPages(self._transport, types.Page[types.Dataset], "/v1/datasets", limit)

    async def delete(self, dataset: types.Dataset | str) -> None:
        """Delete a dataset. Raises NotFoundError, and ConflictError while a training uses it."""
        where = path("datasets", id_of(dataset))
        await self._transport.send(Request("DELETE", where, repeatable=False))
