"""Pure-ASGI middleware: every request gets an id, and every response says where its time went."""

from __future__ import annotations

import asyncio
import logging
import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.ids import new_id
from app.http.problems import fail, response
from hyperserve.types import Timing

DRAIN_BYTES = 256 << 20
DRAIN_SECONDS = 5.0
BODY_TIMEOUT = 408

log = logging.getLogger("hyperserve")


class DrainBody:
    """Reads and discards the rest of a refused body, within bounds.

    The server closes a connection that has unread input, which resets it, and the response would be lost.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _worth_draining(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        finished = False

        async def tracked() -> Message:
            nonlocal finished
            message = await receive()
            finished = finished or not message.get("more_body", False)
            return message

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != BODY_TIMEOUT:
                await drain()
            await send(message)

        async def drain() -> None:
            drained = 0
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    while not finished and drained < DRAIN_BYTES:
                        drained += len((await tracked()).get("body", b""))
            except TimeoutError:
                return

        await self.app(scope, tracked, send_after_body)


def _worth_draining(headers: Headers) -> bool:
    """Return true if there is a body, and its client does not wait for permission to send it."""
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    return has_body and "expect" not in headers


_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
PHASES = ("decode", "queue", "embed", "adapt", "predict")


class RequestContext:
    """Gives each request `state.request_id` and `state.timing`; sends them as X-Request-Id and Server-Timing.

    An incoming X-Request-Id is kept if it is short and plain, so that a caller can follow its requests. A request
    whose client has left ends without an error, and one that a shutdown cuts off with 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        incoming = Headers(scope=scope).get("x-request-id", "")
        request_id = incoming if _SANE_ID.fullmatch(incoming) else new_id("req")
        timing: Timing = {}
        scope.setdefault("state", {}).update(request_id=request_id, timing=timing, started=started)
        responding = False

        async def send_with_headers(message: Message) -> None:
            nonlocal responding
            if message["type"] == "http.response.start":
                responding = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                total = (time.perf_counter() - started) * 1e3
                entries = [f"{phase};dur={timing[phase]:.3f}" for phase in PHASES if phase in timing]
                headers["Server-Timing"] = ", ".join([*entries, f"total;dur={total:.3f}"])
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("the client left before its response was ready")
        except asyncio.CancelledError:
            # The server cancels requests whose time is over, and would log this as an error of the application.
            log.warning("a request was cut off because the server is stopping")
            if not responding:
                headers = {"Retry-After": "5", "Connection": "close"}
                refusal = fail("draining", "The server is stopping.", headers=headers)
                await response(refusal, scope)(scope, receive, send_with_headers)
