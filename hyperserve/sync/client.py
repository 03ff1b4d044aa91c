# Generated from hyperserve/aio/client.py by `python -m tools.make_sync`: change that file, not this one.
"""The synchronous client.

with Client() as client:
    task = client.tasks.create({"cat": ["cat1.png", "cat2.png"], "dog": ["dog1.png"]})
    answer = task.predict(["what.png"])
    print(answer.predictions[0].label)
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import httpx

from hyperserve import connection, inputs, proxies, types
from hyperserve.errors import ConnectionFailedError, InvalidArgumentError, ServiceUnavailableError
from hyperserve.query_batches import OnProgress, QueryBatches
from hyperserve.requests import Request
from hyperserve.retries import RetryPolicy
from hyperserve.sync import io
from hyperserve.sync.jobs import Jobs
from hyperserve.sync.predict import predict
from hyperserve.sync.resources import Datasets, Learners, Tasks
from hyperserve.sync.streams import Streams
from hyperserve.sync.task import Task, feedback
from hyperserve.sync.transport import Transport


class Client:
    """Client of a hyperserve server; use it in a `with` block or call `close`.

    Threads may share a synchronous client, and the tasks of one event loop an asynchronous one.
    base_url: by default HYPERSERVE_URL, else http://127.0.0.1:8000; api_key: sent as a bearer token;
    timeout: seconds without a response after which a request fails; max_retries: further attempts after 429,
    503 and failed connections, with the waits that Retry-After asks for; compress: send large JSON as gzip, which pays
    over slow networks.
    A server on this machine is reached directly; for others the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY counts.
    Raises InvalidArgumentError.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 2,
        compress: bool = False,
    ) -> None:
        if max_retries < 0:
            raise InvalidArgumentError(f"max_retries must be 0 or more, not {max_retries}")
        url = connection.server_url(base_url)
        self._http = httpx.Client(
            base_url=url,
            headers=connection.headers(api_key),
            timeout=connection.default_timeout(timeout),
            limits=connection.POOL,
            proxy=proxies.proxy_for(url),
            verify=proxies.tls_context(url),
            trust_env=False,  # `proxies` has read it
        )
        self._transport = Transport(self._http, RetryPolicy(max_retries), compress)
        self.tasks = Tasks(self._transport)
        self.learners = Learners(self._transport)
        self.datasets = Datasets(self._transport)
        self.jobs = Jobs(self._transport)
        self.streams = Streams(self._transport)

    def predict(
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
        on_progress: OnProgress | None = None,
    ) -> types.Predictions:
        """Adapt and predict in one request; the server stores nothing. Arguments as for tasks.

        learner: None selects the server's default for the kind of input, or for regression. More queries than the
        server takes at once are sent in several requests, each with the support set: a task is cheaper for many.
        """
        options = {"kind": kind, "learner": learner, "coverage": coverage, "samples": samples, "top": top}
        batches = io.in_thread(
            QueryBatches.of, "/v1/predict", queries, options, targets=targets, support=support
        )
        return predict(self._transport, types.Predictions, batches, _by_one_learner, on_progress)

    def feedback(self, prediction_id: str, label: str | inputs.Target) -> Task:
        """Add a stored query to its task with the right answer, and return the task as it is now.

        Same as `prediction.feedback` if only the id is known. label: in a regression task, the target.
        Raises NotFoundError, and GoneError once the prediction has expired.
        """
        return feedback(self._transport, prediction_id, label)

    def methods(self) -> list[types.Method]:
        """Return the available methods: survey axes, paper, ways and hyperparameters of each."""
        page = self._transport.fetch(types.Page[types.Method], Request("GET", "/v1/methods"))
        return page.items

    def limits(self) -> types.Limits:
        """Return the limits of requests."""
        return self._transport.fetch(types.Limits, Request("GET", "/v1/limits"))

    def ready(self) -> bool:
        """Return True if the server responds and its learners are loaded; makes one attempt, for polling."""
        try:
            Transport(self._http, RetryPolicy(0)).send(Request("GET", "/readyz"))
        except (ServiceUnavailableError, ConnectionFailedError):
            return False
        return True

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _by_one_learner(queries: QueryBatches, first: types.Predictions) -> QueryBatches:
    return queries.with_member("learner", first.learner)
