"""Refusing a body politely: many clients send all of theirs before they look for an answer."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_BYTES = 256 << 20
DRAIN_SECONDS = 5.0
BODY_TIMEOUT = 408


class DrainBody:
    """Reads and forgets the rest of a body that is refused, within bounds.

    The server closes a connection that has unread input, which resets it, and the answer would be lost.
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
    """Whether there is a body, and its client has not asked first."""
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    return has_body and "expect" not in headers
