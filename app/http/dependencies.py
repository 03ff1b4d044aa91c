"""Dependencies of routes, the same for every resource: the tenant's store, the body, its claim, the page.

Dependencies are resolved in the order of a route's parameters, so what refuses a request before its body is read
stands before the body. Those that clean up do so when the route has returned, before the response is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Query, Request
from pydantic import BaseModel

from app.db.tenancy import Store
from app.http import strict_json
from app.http.body import Body, BodyKind, BodyReader
from app.http.fields import NoOptions, PageOptions
from app.http.idempotency import Claim, Idempotency, IdempotencyKey
from app.http.problems import Fault, ProblemError, fail, pointer
from app.http.validation import validated
from hyperserve.stream_types import StreamPredictions
from hyperserve.types import Predictions, Task, Timing

DEFAULT_TENANT = "default"
PATIENCE_SECONDS = 0.05
"""Time after which a request that takes longer is cancelled if its client disconnects."""

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)
Timed = TypeVar("Timed", Task, Predictions, StreamPredictions)


# Dependencies are coroutines even if none awaits: FastAPI sends plain functions through its thread pool.


async def _tenant(request: Request) -> str:
    # Keys will name tenants; until then there is one.
    request.state.tenant = DEFAULT_TENANT
    return DEFAULT_TENANT


async def _store(request: Request, tenant: Annotated[str, Depends(_tenant)]) -> Store:
    store: Store = request.app.state.runtime.store(tenant)
    return store


TenantStore = Annotated[Store, Depends(_store)]
NoQuery = Annotated[NoOptions, Query()]
PageQuery = Annotated[PageOptions, Query()]


def body_of(*kinds: BodyKind) -> Callable[[Request], AsyncIterator[Body]]:
    """Return a dependency that reads a body of one of the kinds. See `BodyReader.body` for what it raises."""

    async def read_body(request: Request) -> AsyncIterator[Body]:
        reader: BodyReader = request.app.state.body_reader
        async with reader.body(request, kinds) as body:
            yield body

    return read_body


_read_json = body_of("json")
JsonBody = Annotated[Body, Depends(_read_json, scope="function")]
_read_support = body_of("json", "multipart")
SupportBody = Annotated[Body, Depends(_read_support, scope="function")]
QueryBody = Annotated[Body, Depends(body_of("json", "multipart", "image"), scope="function")]


def document(model: type[Model]) -> Callable[..., Awaitable[Model]]:
    """Return a dependency that reads a small JSON body as the model. Raises `ProblemError` 422."""

    # An unknown option is refused before the body is looked at.
    async def read_document(body: JsonBody, _options: NoQuery) -> Model:
        return validated(model, strict_json.parse(body.data))

    return read_document


def _claimed(read_body: Callable[[Request], AsyncIterator[Body]]) -> Callable[..., AsyncIterator[Claim]]:
    async def claim(
        request: Request,
        store: TenantStore,
        # Not annotated: FastAPI would look for the variable among the module's.
        body: Body = Depends(read_body, scope="function"),
        _key: IdempotencyKey = None,
    ) -> AsyncIterator[Claim]:
        async with Idempotency(store).claim(request, body) as claim:
            yield claim

    return claim


async def _claimed_without_body(
    request: Request, store: TenantStore, _key: IdempotencyKey = None
) -> AsyncIterator[Claim]:
    async with Idempotency(store).claim(request) as claim:
        yield claim


JsonClaim = Annotated[Claim, Depends(_claimed(_read_json), scope="function")]
"""The turn of a request with an `Idempotency-Key` and a JSON body. Without a key the claim stores nothing."""
SupportClaim = Annotated[Claim, Depends(_claimed(_read_support), scope="function")]
BodilessClaim = Annotated[Claim, Depends(_claimed_without_body, scope="function")]


def timed(answer: Timed, request: Request) -> Timed:
    """Return the answer with the phases of its request, and the total so far."""
    timing: Timing = request.state.timing
    timing |= answer.timing or {}
    total = (time.perf_counter() - request.state.started) * 1e3
    return answer.model_copy(update={"timing": {**timing, "total": total}})


async def options_once(request: Request) -> None:
    """Raise `ProblemError`: 400 for a query string that is not UTF-8, 422 for an option that is given twice."""
    _check_query_string(request.scope["query_string"])
    names = [name for name, _ in request.query_params.multi_items()]
    if len(names) != len(set(names)):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise ProblemError(
            [Fault("given_twice", "The query string gives it twice.", pointer((name,))) for name in twice]
        )


def _check_query_string(query: bytes) -> None:
    """Raise `ProblemError` 400 for bytes that would be read as replacement characters."""
    if query.isascii() and b"%" not in query:
        return
    for option in query.split(b"&"):
        name, _, value = option.partition(b"=")
        if not _is_utf8(name):
            raise fail("invalid_utf8", "The query string is not UTF-8.", "")
        if not _is_utf8(value):
            where = pointer((unquote_to_bytes(name).decode(),))
            raise fail(
                "invalid_utf8", "The value is not percent-encoded UTF-8 (curl: -G --data-urlencode).", where
            )


def _is_utf8(text: bytes) -> bool:
    """Return true for percent-encoded UTF-8. Bytes beyond ASCII must be encoded: they would be read as Latin-1."""
    try:
        unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        return False
    return text.isascii()


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, which is cancelled when the client leaves: nobody would read it."""
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
