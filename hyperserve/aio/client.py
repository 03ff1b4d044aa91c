"""The asynchronous client.

async with AsyncClient() as client:
    task = await client.tasks.create({"cat": ["cat1.png", "cat2.png"], "dog": ["dog1.png"]})
    answer = await task.predict(["what.png"])
    print(answer.predictions[0].label)
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import httpx

from hyperserve import connection, inputs, types
from hyperserve.aio import io
from hyperserve.aio.jobs import AsyncJobs
from hyperserve.aio.resources import AsyncDatasets, AsyncLearners, AsyncTasks
from hyperserve.aio.streams import AsyncStreams
from hyperserve.aio.task import AsyncTask, feedback
from hyperserve.aio.transport import AsyncTransport
from hyperserve.errors import ConnectionFailedError, ServiceUnavailableError
from hyperserve.requests import Request, once_body
from hyperserve.retries import RetryPolicy


class AsyncClient:
    """A connection to a hyperserve server; use it in a `with` block, or call `close`.

    To be shared by threads, or by the tasks of one event loop where it is asynchronous.
    base_url: HYPERSERVE_URL or http://127.0.0.1:8000 when left out; api_key: sent as a bearer token;
    timeout: seconds of silence from the server that count as a failure; max_retries: further attempts after
    429, 503 and failed connections, which obey Retry-After.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
    ) -> None:
        if max_retries < 0:
            raise ValueError(f"max_retries {max_retries} must be 0 or more")
        self._http = httpx.AsyncClient(
            base_url=connection.address(base_url),
            headers=connection.headers(api_key),
            timeout=connection.timeouts(timeout),
            limits=connection.POOL,
        )
        self._transport = AsyncTransport(self._http, RetryPolicy(max_retries))
        self.tasks = AsyncTasks(self._transport)
        self.learners = AsyncLearners(self._transport)
        self.datasets = AsyncDatasets(self._transport)
        self.jobs = AsyncJobs(self._transport)
        self.streams = AsyncStreams(self._transport)

    async def predict(
        self,
        learner: str | None,
        support: inputs.Support,
        queries: Iterable[inputs.Input],
        *,
        kind: types.TaskKind | None = None,
        targets: Iterable[inputs.Target] | None = None,
        coverage: float | None = None,
        samples: int | None = None,
        top: int | None = None,
    ) -> types.Predictions:
        """Adapt and answer in one request; the server keeps nothing. Arguments as for tasks.

        `learner` None takes the server's default for the kind of input, or for regression.
        """
        options = {"kind": kind, "learner": learner, "coverage": coverage, "samples": samples, "top": top}
        body = await io.off_loop(once_body, support, queries, targets, **options)
        return await self._transport.fetch(types.Predictions, Request("POST", "/v1/predict", body=body))

    async def feedback(self, prediction_id: str, label: str | inputs.Target) -> AsyncTask:
        """Teach a task what a stored query was; the task as it is now. `prediction.feedback` with an id only.

        label: or the target, in a regression task.

        Raises NotFoundError, and GoneError once the prediction has lapsed.
        """
        return await feedback(self._transport, prediction_id, label)

    async def methods(self) -> list[types.Method]:
        """What learners are made by: axes, paper, ways, hyperparameters."""
        page = await self._transport.fetch(types.Page[types.Method], Request("GET", "/v1/methods"))
        return page.items

    async def limits(self) -> types.Limits:
        """What the server accepts at most."""
        return await self._transport.fetch(types.Limits, Request("GET", "/v1/limits"))

    async def ready(self) -> bool:
        """Whether the server answers and its learners are warm; one attempt, for polling."""
        try:
            await AsyncTransport(self._http, RetryPolicy(0)).send(Request("GET", "/readyz"))
        except (ServiceUnavailableError, ConnectionFailedError):
            return False
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
