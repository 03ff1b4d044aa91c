"""Requests and retries: everything between a method of the client and the socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import httpx

from hyperserve.aio import io
from hyperserve.connection import for_stream, for_upload
from hyperserve.errors import HyperserveError, MalformedAnswerError
from hyperserve.events import Event, EventParser
from hyperserve.requests import Request
from hyperserve.retries import Model, RetryPolicy, decode, refused, translated
from hyperserve.uploads import Upload


@dataclass(frozen=True)
class AsyncTransport:
    """One connection pool and one retry policy."""

    http: httpx.AsyncClient
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    async def fetch(self, answer: type[Model], request: Request) -> Model:
        """The answer to a request, as `answer`. Raises HyperserveError."""
        response = await self.send(request)
        return decode(answer, request, response.content)

    async def send(self, request: Request) -> httpx.Response:
        """A response of status 2xx, after retries. Raises HyperserveError."""
        attempt = 0
        while True:
            try:
                return await self._once(request)
            except HyperserveError as error:
                pause = self.policy.after(error, attempt, request.repeatable)
            await io.sleep(pause)
            attempt += 1

    async def events(self, request: Request) -> AsyncGenerator[Event | None, None]:
        """The events of one connection; None is a sign of life. Raises HyperserveError."""
        parser = EventParser()
        accept = {**request.all_headers, "Accept": "text/event-stream"}
        with translated():
            async with self.http.stream(
                request.method,
                request.path,
                params=request.asked,
                headers=accept,
                timeout=for_stream(self.http.timeout),
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise refused(response)
                kind = response.headers.get("content-type", "")
                if not kind.startswith("text/event-stream"):
                    raise MalformedAnswerError(f"{request.path}: {kind or 'no type'} is no stream of events")
                async for chunk in response.aiter_bytes():
                    for event in parser.feed(chunk):
                        yield event
                    yield None

    async def _once(self, request: Request) -> httpx.Response:
        body, usual = request.body, self.http.timeout
        with translated():
            response = await self.http.request(
                request.method,
                request.path,
                params=request.asked,
                content=io.chunks(body.path) if isinstance(body, Upload) else body,
                headers=request.all_headers,
                timeout=for_upload(usual) if isinstance(body, Upload) else usual,
            )
        if response.is_success:
            return response
        raise refused(response)
