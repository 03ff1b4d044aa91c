"""Predictions for any number of queries: one request if they fit, else several in parallel, joined in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from hyperserve import types
from hyperserve.aio import io
from hyperserve.aio.transport import AsyncTransport
from hyperserve.errors import StatusError
from hyperserve.query_batches import (
    BATCHES_AT_ONCE,
    Answer,
    OnProgress,
    QueryBatches,
    is_too_much,
    joined,
    shifted_error,
)
from hyperserve.requests import Request


async def predict(
    transport: AsyncTransport,
    kind: type[Answer],
    queries: QueryBatches,
    pin: Callable[[QueryBatches, Answer], QueryBatches],
    on_progress: OnProgress | None,
) -> Answer:
    """Return the answer to all queries of a call.

    pin: returns the queries such that the version that gave the first answer gives the others too.
    Raises HyperserveError, whose pointers count the queries of the whole call.
    """
    total = len(queries.whole)
    if queries.fits_one_request:
        try:
            answer = await transport.fetch(kind, queries.request(queries.whole))
        except StatusError as error:
            if total < 2 or not is_too_much(error):
                raise
            # The server has other limits than usual.
        else:
            await _notify(on_progress, total, total)
            return answer
    limits = await transport.fetch(types.Limits, Request("GET", "/v1/limits"))
    first, *rest = queries.split(limits)
    answers = {0: await _answer(transport, kind, queries, first)}
    done = len(first)
    await _notify(on_progress, done, total)
    pinned = pin(queries, answers[0])

    async def send(batch: range) -> Answer:
        return await _answer(transport, kind, pinned, batch)

    async with aclosing(io.in_parallel(send, rest, BATCHES_AT_ONCE)) as finished:
        async for batch, answer in finished:
            answers[batch.start] = answer
            done += len(batch)
            await _notify(on_progress, done, total)
    return joined(answers)


async def _answer(
    transport: AsyncTransport, kind: type[Answer], queries: QueryBatches, batch: range
) -> Answer:
    try:
        return await transport.fetch(kind, queries.request(batch))
    except StatusError as error:
        raise shifted_error(error, batch.start) from None


async def _notify(on_progress: OnProgress | None, done: int, total: int) -> None:
    if on_progress is not None:
        await io.notify(on_progress, done, total)
