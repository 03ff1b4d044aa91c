# Generated from hyperserve/aio/transport.py by `python -m tools.make_sync`: change that file, not this one.
"""Transport: sends requests, retries them and raises errors."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import httpx

from hyperserve.connection import stream_timeout, upload_timeout
from hyperserve.errors import HyperserveError, MalformedAnswerError
from hyperserve.requests import COMPRESSED_FROM, Request, compressed
from hyperserve.retries import Model, RetryPolicy, decode, error_from_response, translate_errors
from hyperserve.server_sent_events import Event, EventParser
from hyperserve.sync import io
from hyperserve.uploads import Upload


@dataclass(frozen=True)
class Transport:
    """Connection pool with a retry policy."""

    http: httpx.Client
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    compress: bool = False
    """Send large JSON bodies as gzip."""

    def fetch(self, answer: type[Model], request: Request) -> Model:
        """Send a request and return its response as an `answer`. Raises HyperserveError."""
        response = self.send(request)
        return decode(answer, request, response.content)

    def send(self, request: Request) -> httpx.Response:
        """Send a request, with retries, and return its 2xx response. Raises HyperserveError."""
        attempt = 0
        while True:
            try:
                return self._once(request)
            except HyperserveError as error:
                pause = self.policy.wait_after(error, attempt, request.repeatable)
            io.sleep(pause)
            attempt += 1

    def events(self, request: Request) -> Generator[Event | None, None, None]:
        """Yield the events of one connection, and None at every chunk as a heartbeat. Raises HyperserveError."""
        parser = EventParser()
        accept = {**request.all_headers, "Accept": "text/event-stream"}
        with translate_errors():
            with self.http.stream(
                request.method,
                request.path,
                params=request.query_params,
                headers=accept,
                timeout=stream_timeout(self.http.timeout),
            ) as response:
                if not response.is_success:
                    response.read()
                    raise error_from_response(response)
                kind = response.headers.get("content-type", "")
                if not kind.startswith("text/event-stream"):
                    found = kind or "a response without a content type"
                    raise MalformedAnswerError(f"{request.path}: expected an event stream, not {found}")
                for chunk in response.iter_bytes():
                    for event in parser.feed(chunk):
                        yield event
                    yield None

    def _once(self, request: Request) -> httpx.Response:
        body, timeout, headers = request.body, self.http.timeout, request.all_headers
        if self.compress and isinstance(body, bytes) and len(body) >= COMPRESSED_FROM:
            body = io.in_thread(compressed, body)
            headers = {**headers, "Content-Encoding": "gzip"}
        with translate_errors():
            response = self.http.request(
                request.method,
                request.path,
                params=request.query_params,
                content=io.chunks(body.path) if isinstance(body, Upload) else body,
                headers=headers,
                timeout=upload_timeout(timeout) if isinstance(body, Upload) else timeout,
            )
        if response.is_success:
            return response
        raise error_from_response(response)
