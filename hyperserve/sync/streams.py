# Made from hyperserve/aio/streams.py by `python -m tools.make_sync`: change that file, not this one.
"""Streams: networks that labelled sets are registered into one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from hyperserve import inputs, stream_types, types, uploads
from hyperserve.requests import Request, encode, given, identity, path, query_body
from hyperserve.sync import io
from hyperserve.sync.jobs import Jobs
from hyperserve.sync.pages import Pages
from hyperserve.sync.transport import Transport


class Stream(stream_types.Stream):
    """A stream, and the way to ask it and to register into it.

    It is what the server said once: a change leaves it as it was; `refresh` says what is there now.
    """

    _transport: Transport = PrivateAttr()

    def bind(self, transport: Transport) -> Stream:
        """This stream, answering through `transport`."""
        self._transport = transport
        return self

    def predict(
        self,
        queries: Iterable[inputs.Input],
        *,
        task: str | None = None,
        version: int | None = None,
        coverage: float | None = None,
        top: int | None = None,
    ) -> stream_types.StreamPredictions:
        """One prediction per query, in order.

        task: the stream task that all queries belong to; left out, it is inferred for each. Other arguments as for
        tasks. Raises TypeError or ValueError naming the query, GoneError for a forgotten stream task,
        HyperserveError.
        """
        fields = {"task": task, "version": version, "coverage": coverage, "top": top}
        body = io.off_loop(query_body, queries, None, **fields)
        request = Request("POST", path("streams", self.name, "predict"), body=body)
        return self._transport.fetch(stream_types.StreamPredictions, request)

    def register(
        self,
        task: str,
        dataset: types.Dataset | str | Path | Mapping[str, Iterable[inputs.Input]],
        *,
        classes: Sequence[str] | None = None,
        held_out: int | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> stream_types.StreamTask:
        """Register a labelled set under the name `task`; its data may be deleted afterwards.

        dataset: one of the server, or its id; a Path to a file or folder as `datasets.upload` takes it; or examples by
        class, {"cat": [input, ...], ...}. classes: those to take of a dataset; held_out: examples to keep, which tell
        how well the stream task is answered; wait: for its job, `timeout` seconds at most. Without waiting, the
        answer's `job` is to be waited for.
        Raises TypeError or ValueError naming the example, ConflictError where the name is taken, JobFailedError,
        WaitTimeoutError, HyperserveError.
        """
        if isinstance(dataset, Path | Mapping):
            if classes is not None:
                raise ValueError("classes are chosen of a dataset of the server: upload it first")
            work = self._upload(task, dataset, held_out)
        else:
            fields = {"name": task, "dataset": identity(dataset), "classes": classes, "held_out": held_out}
            request = Request.creation(path("streams", self.name, "tasks"), encode(given(fields)))
            work = self._transport.fetch(stream_types.StreamWork, request)
        return self._done(work, wait=wait, timeout=timeout)

    def forget(
        self, task: stream_types.StreamTask | str, *, wait: bool = True, timeout: float | None = None
    ) -> stream_types.StreamTask:
        """Take a stream task out for good, and delete every version that holds it.

        Raises JobFailedError, WaitTimeoutError, NotFoundError, ConflictError for the only one, HyperserveError.
        """
        where = path("streams", self.name, "tasks", _name(task), "forget")
        work = self._transport.fetch(stream_types.StreamWork, Request.creation(where, b""))
        return self._done(work, wait=wait, timeout=timeout)

    def stream_tasks(self) -> list[stream_types.StreamTask]:
        """All that were ever registered: accuracy then and now, drift, alarm."""
        request = Request("GET", path("streams", self.name, "tasks"))
        return (self._transport.fetch(types.Page[stream_types.StreamTask], request)).items

    def task(self, task: stream_types.StreamTask | str) -> stream_types.StreamTask:
        """One stream task as it is now. Raises NotFoundError."""
        request = Request("GET", path("streams", self.name, "tasks", _name(task)))
        return self._transport.fetch(stream_types.StreamTask, request)

    def versions(self, *, limit: int | None = None) -> Pages[stream_types.StreamVersion]:
        """Every state the stream has had, newest first, but those that held what is forgotten."""
        where = path("streams", self.name, "versions")
        return Pages(self._transport, types.Page[stream_types.StreamVersion], where, limit)

    def rollback(self, version: stream_types.StreamVersion | int) -> Stream:
        """Let another version answer, be it older or newer; the stream as it is now."""
        number = version if isinstance(version, int) else version.number
        request = Request("POST", path("streams", self.name, "rollback"), body=encode({"version": number}))
        return (self._transport.fetch(Stream, request)).bind(self._transport)

    def refresh(self) -> Stream:
        """This stream as the server has it now. Raises NotFoundError when it is gone."""
        return Streams(self._transport).get(self.name)

    def delete(self) -> None:
        """Remove the stream, its versions and whatever they have learned. Raises NotFoundError when it is gone."""
        Streams(self._transport).delete(self.name)

    def _upload(
        self, task: str, source: Path | Mapping[str, Iterable[inputs.Input]], held_out: int | None
    ) -> stream_types.StreamWork:
        if isinstance(source, Path):
            upload = io.off_loop(uploads.prepare, source, None)
        else:
            upload = io.off_loop(uploads.of_examples, source)
        params = {"name": task, "held_out": held_out}
        try:
            request = Request.creation(path("streams", self.name, "tasks"), upload, params)
            return self._transport.fetch(stream_types.StreamWork, request)
        finally:
            upload.discard()

    def _done(
        self, work: stream_types.StreamWork, *, wait: bool, timeout: float | None
    ) -> stream_types.StreamTask:
        if not wait:
            return work.task
        Jobs(self._transport).wait(work.job, timeout=timeout)
        return self.task(work.task)


class Streams:
    """`client.streams`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
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
    ) -> Stream:
        """Make a stream without stream tasks, or a copy of one that came with the server.

        source: the stream to copy; scenario: cl1, cl2 or cl3; method: hypernetwork or analytic; input: what a query
        is, such as {"kind": "image", "size": 28} or {"kind": "vector", "dim": 64}, or in its place `learner`, whose
        frozen encoder makes the features; alarm: bounds of {"drift": ..., "fall": ...}. Left out, the server's
        defaults hold. Raises ConflictError where the name is taken, HyperserveError.

            stream = client.streams.create("signs", input={"kind": "image", "size": 28})
            stream.register("arrows", dataset)
            stream.predict(["what.png"])
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
        request = Request.creation("/v1/streams", encode(given(fields)))
        return (self._transport.fetch(Stream, request)).bind(self._transport)

    def get(self, name: str) -> Stream:
        """Raises NotFoundError."""
        request = Request("GET", path("streams", name))
        return (self._transport.fetch(Stream, request)).bind(self._transport)

    def list(self, limit: int | None = None) -> Pages[Stream]:
        """The streams of the server by name, those that came with it among them."""

        def bind(stream: Stream) -> Stream:
            return stream.bind(self._transport)

        return Pages(self._transport, types.Page[Stream], "/v1/streams", limit, bind=bind)

    def delete(self, stream: stream_types.Stream | str) -> None:
        """With its versions and whatever they have learned. Raises NotFoundError, ConflictError for a bundled one."""
        self._transport.send(Request("DELETE", path("streams", _name(stream)), repeatable=False))


def _name(thing: stream_types.Stream | stream_types.StreamTask | str) -> str:
    return thing if isinstance(thing, str) else thing.name
