"""Pure-ASGI middleware: every request has an id, every answer says where its time went."""

from __future__ import annotations

import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.ids import new_id
from hyperserve.types import Timing

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
PHASES = ("decode", "queue", "embed", "adapt", "predict")


class RequestContext:
    """Gives each request `state.request_id` and `state.timing`; sends them as X-Request-Id and Server-Timing.

    An incoming X-Request-Id is kept when it is short and plain, so that a caller can follow its requests.
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

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                total = (time.perf_counter() - started) * 1e3
                entries = [f"{phase};dur={timing[phase]:.3f}" for phase in PHASES if phase in timing]
                headers["Server-Timing"] = ", ".join([*entries, f"total;dur={total:.3f}"])
            await send(message)

        await self.app(scope, receive, send_with_headers)
