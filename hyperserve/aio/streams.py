"""Streams: networks that learn one labelled set after the other without forgetting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from hyperserve import inputs, stream_types, types, uploads
from hyperserve.aio import io
from hyperserve.aio.jobs import AsyncJobs
from hyperserve.aio.pages import AsyncPages
from hyperserve.aio.predict import predict
from hyperserve.aio.transport import AsyncTransport
from hyperserve.errors import InvalidArgumentError
from hyperserve.query_batches import OnProgress, QueryBatches
from hyperserve.requests import Request, encode, id_of, path, without_none


class AsyncStream(stream_types.Stream):
    """A stream, with methods to query it and to register stream tasks.

    Its fields are a snapshot that changes do not update; `refresh` returns the current state.
    """

    _transport: AsyncTransport = PrivateAttr()

    def bind(self, transport: AsyncTransport) -> AsyncStream:
        """Attach the transport that the methods use, and return this stream."""
        self._transport = transport
        return self

    async def predict(
        self,
        queries: Iterable[inputs.Input],
        *,
        task: str | None = None,
        version: int | None = None,
        coverage: float | None = None,
        top: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> stream_types.StreamPredictions:
        """Return one prediction per query, in order; any number of queries, as for tasks.

        task: the stream task that all queries belong to; inferred for each query if left out. Other arguments as for
        tasks. Raises InvalidArgumentError naming the query, GoneError for a forgotten stream task, HyperserveError.
        """
        fields = {"task": task, "version": version, "coverage": coverage, "top": top}
        where = path("streams", self.name, "predict")
        batches = await io.in_thread(QueryBatches.of, where, queries, fields)
        return await predict(
            self._transport, stream_types.StreamPredictions, batches, _to_one_version, on_progress
        )

    async def register(
        self,
        task: str,
        dataset: types.Dataset | str | Path | Mapping[Any, Iterable[inputs.Input]],
        *,
        classes: Sequence[inputs.Label] | None = None,
        held_out: int | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> stream_types.StreamTask:
        """Register a labelled set under the name `task`; its data may be deleted afterwards.

        dataset: a dataset of the server or its id; a Path to a file or folder, as for `datasets.upload`; or examples by
        class, {"cat": [input, ...], ...}. classes: the classes to use of a dataset; held_out: number of examples to
        hold out for measuring accuracy; wait: wait for the job, `timeout` seconds at most; otherwise pass the `job` of
        the result to `jobs.wait`.
        Raises InvalidArgumentError naming the example, ConflictError if the name is taken, JobFailedError,
        WaitTimeoutError, HyperserveError.
        """
        if isinstance(dataset, Path | Mapping):
            if classes is not None:
                raise InvalidArgumentError(
                    "classes can only be chosen from a dataset on the server: upload it first"
                )
            work = await self._upload(task, dataset, held_out)
        else:
            chosen = None if classes is None else [inputs.label_text(label) for label in classes]
            fields = {"name": task, "dataset": id_of(dataset), "classes": chosen, "held_out": held_out}
            request = Request.creation(path("streams", self.name, "tasks"), encode(without_none(fields)))
            work = await self._transport.fetch(stream_types.StreamWork, request)
        return await self._result(work, wait=wait, timeout=timeout)

    async def forget(
        self, task: stream_types.StreamTask | str, *, wait: bool = True, timeout: float | None = None
    ) -> stream_types.StreamTask:
        """Forget a stream task for good and delete every version that contains it.

        Raises NotFoundError, ConflictError if it is the only stream task, JobFailedError, WaitTimeoutError,
        HyperserveError.
        """
        where = path("streams", self.name, "tasks", _name(task), "forget")
        work = await self._transport.fetch(stream_types.StreamWork, Request.creation(where, b""))
        return await self._result(work, wait=wait, timeout=timeout)

    async def stream_tasks(self) -> list[stream_types.StreamTask]:
        """Return all stream tasks ever registered, each with accuracy then and now, drift and alarm."""
        request = Request("GET", path("streams", self.name, "tasks"))
        return (await self._transport.fetch(types.Page[stream_types.StreamTask], request)).items

    async def task(self, task: stream_types.StreamTask | str) -> stream_types.StreamTask:
        """Return one stream task as it is now. Raises NotFoundError."""
        request = Request("GET", path("streams", self.name, "tasks", _name(task)))
        return await self._transport.fetch(stream_types.StreamTask, request)

    def versions(self, *, limit: int | None = None) -> AsyncPages[stream_types.StreamVersion]:
        """Return the versions of the stream, newest first, without those that contained a forgotten stream task."""
        where = path("streams", self.name, "versions")
        return AsyncPages(self._transport, types.Page[stream_types.StreamVersion], where, limit)

    async def rollback(self, version: stream_types.StreamVersion | int) -> AsyncStream:
        """Make another version, older or newer, the current one, and return the stream as it is now."""
        number = version if isinstance(version, int) else version.number
        request = Request("POST", path("streams", self.name, "rollback"), body=encode({"version": number}))
        return (await self._transport.fetch(AsyncStream, request)).bind(self._transport)

    async def refresh(self) -> AsyncStream:
        """Return this stream as it is now. Raises NotFoundError if it has been deleted."""
        return await AsyncStreams(self._transport).get(self.name)

    async def delete(self) -> None:
        """Delete the stream with all its versions. Raises NotFoundError if it has been deleted already."""
        await AsyncStreams(self._transport).delete(self.name)

    async def _upload(
        self, task: str, source: Path | Mapping[Any, Iterable[inputs.Input]], held_out: int | None
    ) -> stream_types.StreamWork:
        if isinstance(source, Path):
            upload = await io.in_thread(uploads.prepare, source, None)
        else:
            upload = await io.in_thread(uploads.from_examples, source)
        params = {"name": task, "held_out": held_out}
        try:
            request = Request.creation(path("streams", self.name, "tasks"), upload, params)
            return await self._transport.fetch(stream_types.StreamWork, request)
        finally:
            upload.discard()

    async def _result(
        self, work: stream_types.StreamWork, *, wait: bool, timeout: float | None
    ) -> stream_types.StreamTask:
        if not wait:
            return work.task
        await AsyncJobs(self._transport).wait(work.job, timeout=timeout)
        return await self.task(work.task)


class AsyncStreams:
    """`client.streams`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        name: str,
        *,
        source: str | None = None,
        scenario: stream_types.Scenario | None = None,
        method: str | None = None,
        hparams: Mapping[str, Any] | None = None,
        input: Mapping[str, Any] | None = None,
        learner: str | None = None,
        seed: int | None = None,
        alarm: Mapping[str, float] | None = None,
    ) -> AsyncStream:
        """Create a stream without stream tasks, or a copy of a bundled one.

        source: the stream to copy; scenario: cl1, cl2 or cl3; method: hypernetwork or analytic; input: the kind of
        input, such as {"kind": "image", "size": 28} or {"kind": "vector", "dim": 64}; learner: instead of `input`, a
        learner whose frozen encoder computes the features; alarm: bounds {"drift": ..., "fall": ...}. Arguments left
        out take the server's defaults. Raises ConflictError if the name is taken, HyperserveError.

            stream = await client.streams.create("signs", input={"kind": "image", "size": 28})
            await stream.register("arrows", dataset)
            await stream.predict(["what.png"])
        """
        fields = {
            "name": name,
            "from": source,
            "scenario": scenario,
            "method": method,
            "hparams": hparams,
            "input": input,
            "learner": learner,
            "seed": seed,
            "alarm": alarm,
        }
        request = Request.creation("/v1/streams", encode(without_none(fields)))
        return (await self._transport.fetch(AsyncStream, request)).bind(self._transport)

    async def get(self, name: str) -> AsyncStream:
        """Return a stream. Raises NotFoundError."""
        request = Request("GET", path("streams", name))
        return (await self._transport.fetch(AsyncStream, request)).bind(self._transport)

    def list(self, limit: int | None = None) -> AsyncPages[AsyncStream]:
        """Return the streams of the server by name, the bundled ones included."""

        def bind(stream: AsyncStream) -> AsyncStream:
            return stream.bind(self._transport)

        return AsyncPages(self._transport, types.Page[AsyncStream], "/v1/streams", limit, bind=bind)

    async def delete(self, stream: stream_types.Stream | str) -> None:
        """Delete a stream with all its versions. Raises NotFoundError, and ConflictError for a bundled stream."""
        await self._transport.send(Request("DELETE", path("streams", _name(stream)), repeatable=False))


def _to_one_version(queries: QueryBatches, first: stream_types.StreamPredictions) -> QueryBatches:
    return queries.with_member("version", first.version)


def _name(resource: stream_types.Stream | stream_types.StreamTask | str) -> str:
    return resource if isinstance(resource, str) else resource.name
