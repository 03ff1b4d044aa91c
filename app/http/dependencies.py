"""What routes are given: the tenant, the clock of the request; and what they need around their work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from app.http.problems import Fault, ProblemError, fail, pointer
from hyperserve.stream_types import StreamPredictions
from hyperserve.types import Predictions, Task, Timing

DEFAULT_TENANT = "default"
PATIENCE_SECONDS = 0.05
"""How long an answer may take before it is worth watching whether somebody still waits for it."""

T = TypeVar("T")
Timed = TypeVar("Timed", Task, Predictions, StreamPredictions)


# Dependencies are coroutines though none awaits: FastAPI sends plain functions through its thread pool.


async def _tenant(request: Request) -> str:
    # Keys will name tenants; until then everyone is one.
    request.state.tenant = DEFAULT_TENANT
    return DEFAULT_TENANT


async def _timing(request: Request) -> Timing:
    timing: Timing = request.state.timing
    return timing


Tenant = Annotated[str, Depends(_tenant)]
Clock = Annotated[Timing, Depends(_timing)]


def timed(answer: Timed, request: Request) -> Timed:
    """The answer with the phases of its request, and the total so far."""
    total = (time.perf_counter() - request.state.started) * 1e3
    return answer.model_copy(update={"timing": {**request.state.timing, "total": total}})


async def options_once(request: Request) -> None:
    """Raises `ProblemError` 422 where the query string gives an option twice: which one counts is undefined."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(names) != len(set(names)):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise ProblemError(
            [Fault("given_twice", "The query string gives it twice.", pointer((name,))) for name in twice]
        )


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves: nobody would read it."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        if not done:
            gone = asyncio.ensure_future(_gone(request))
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
        if not task.done():
            raise fail("client_gone", "The client left before its answer was there.")
        return task.result()
    finally:
        task.cancel()


async def _gone(request: Request) -> None:
    """Returns when the client has left. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
