"""The HTTP protocol of a connection: bounded headers, deadlines for silent clients, and a cap on connections.

uvicorn bounds none of these with httptools. What is refused here never becomes a request of the application; it is
answered by a problem document all the same.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from contextlib import suppress
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.core.ids import new_id
from app.http.problems import MEDIA_TYPE, ProblemError, fail
from app.telemetry.metrics import REQUESTS

HEADER_BYTES = 32 << 10
"""A URL, or the headers of a request together, of this size or more are refused."""
LINE_BYTES = 64
"""Room for the method, the version and line breaks."""
WAIT_SECONDS = 10.0
"""Time that a connection waits for a whole header, at first and after each response."""
SPEAKING_SECONDS = 5.0
STALLED_WAITS = 6
"""Waits after which a client that reads nothing of its response is cut off."""
SWEEP_SECONDS = 1.0
LINGER_BYTES = 8 << 20
LINGER_SECONDS = 2.0
"""A refused client may go on sending for so long, and so much: it reads the response only afterwards."""
RESERVED_FILES = 256
"""Descriptors that are not for connections: database, blobs, uploads, libraries."""
UNPARSED = ("unmatched", "OTHER")
"""Route and method of a request that was refused before it was read, in the metrics."""

log = logging.getLogger("hyperserve.access")


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one; child processes inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS reports no hard limit, but accepts none above its own.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connection_limit(most: int) -> int:
    """Return how many of `most` connections the limit of open files leaves room for."""
    files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return most
    return min(most, max(files - RESERVED_FILES, files // 2))


class Connections:
    """The connections of a process that wait for their client, those that wait longest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._since: dict[GuardedProtocol, float] = {}
        self._swept: float | None = None

    def wait(self, connection: GuardedProtocol) -> None:
        """Begin to wait for the client of a connection, or begin anew."""
        self._since.pop(connection, None)
        self._since[connection] = time.monotonic()
        if self._swept is None:
            self._schedule(connection.loop)

    def forget(self, connection: GuardedProtocol) -> None:
        """End the wait: the client has sent its header, or has gone."""
        self._since.pop(connection, None)

    def evict(self) -> bool:
        """Close the connection that has waited longest; return false if none waits."""
        connection = next(iter(self._since), None)
        if connection is None:
            return False
        self.forget(connection)
        connection.transport.abort()
        return True

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._swept = time.monotonic()
        loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        assert self._swept is not None
        # After the loop has been blocked, what clients sent meanwhile is read first.
        punctual = now - self._swept < 2 * SWEEP_SECONDS
        while punctual and (connection := next(iter(self._since), None)) is not None:
            if now - self._since[connection] < WAIT_SECONDS:
                break
            self.forget(connection)
            connection.expire()
        self._swept = None
        if self._since:
            self._schedule(loop)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds.

    | the client | the server |
    |---|---|
    | sends what is not HTTP | 400 |
    | sends a URL or headers of 32 kB or more | 414, 431 |
    | takes more than 10 s for a header | 408; closes the connection if the client fell silent within a line |
    | sends nothing for 10 s, at first or after a response | closes the connection |
    | reads nothing of its response for a minute | closes the connection |
    | opens one connection too many | closes the one that has waited longest for its client; if none waits, 503 |
    """

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self._table = connections
        self.url = b""
        self.headers = []
        self._refusal: ProblemError | None = None
        self._refused = False
        self._discarded = 0
        # Bytes received since the parser last completed a header or returned a piece of a body. `_slack` of them may
        # belong to what came before the current message.
        self._unread = self._slack = self._chunk = 0
        self._delivered = False
        self._begun = False
        self._tail = b""
        self._heard = 0.0
        self._unsent = self._stalls = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._table.most and not self._table.evict():
            self._refuse(fail("busy", "Too many connections are open.", headers={"Retry-After": "1"}))
            transport.close()
            return
        self._table.wait(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._chunk = len(data)
        self._unread += self._chunk
        self._delivered = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._broken(self._refusal or fail("malformed_request", "The request is not valid HTTP/1.1."))
            return
        except httptools.HttpParserUpgrade:
            pass  # A server may ignore Upgrade (RFC 9110, 7.8): the request is answered over HTTP/1.1.
        if self._unread:
            self._tail, self._heard = data[-1:], time.monotonic()
            if len(self.url) >= HEADER_BYTES or self._header_bytes >= HEADER_BYTES:
                self._broken(self._too_large() or _headers_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unread = self._chunk
        self._slack = self._chunk if self._delivered else 0
        self._begun = True
        if self._idle:
            self._table.wait(self)

    def on_headers_complete(self) -> None:
        if self._unread >= HEADER_BYTES and (refusal := self._too_large()) is not None:
            self._refusal = refusal
            raise refusal
        self._read()
        self._begun = False
        self._table.forget(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._read()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._read()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._idle:
            self._table.wait(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._table.wait(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._idle:
            self._table.forget(self)

    def expire(self) -> None:
        """End a connection whose client has kept it waiting for too long."""
        unsent = self.transport.get_write_buffer_size()
        self._stalls = self._stalls + 1 if unsent == self._unsent else 0
        self._unsent = unsent
        if unsent and self._stalls < STALLED_WAITS:
            self._table.wait(self)
        elif unsent or self.transport.is_closing():
            self.transport.abort()
        elif self._begun and not self._gone:
            detail = f"The header of the request was not complete after {WAIT_SECONDS:g} s."
            self._refuse(fail("header_timeout", detail))
        else:
            self.transport.close()

    @property
    def _header_bytes(self) -> int:
        """The least that the headers received so far can have."""
        return self._unread - self._slack - len(self.url) - LINE_BYTES

    @property
    def _idle(self) -> bool:
        """True if no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _gone(self) -> bool:
        """True if the client fell silent in the middle of a line: slow clients go on, and others end their lines."""
        return self._tail != b"\n" and time.monotonic() - self._heard > SPEAKING_SECONDS

    def _read(self) -> None:
        self._unread = self._slack = 0
        self._delivered = True

    def _too_large(self) -> ProblemError | None:
        """Return the problem of a URL or of headers that are too large, as far as they have been parsed."""
        if len(self.url) >= HEADER_BYTES:
            detail = f"The URL is longer than {HEADER_BYTES - 1} bytes."
            return fail("url_too_long", detail, limit=HEADER_BYTES - 1)
        # A name and a value are followed by ": " and a line break.
        if sum(len(name) + len(value) + 4 for name, value in self.headers) >= HEADER_BYTES:
            return _headers_too_large()
        return None

    def _broken(self, problem: ProblemError) -> None:
        """Refuse what cannot be read further, after the requests before it."""
        if not self._idle and not self.cycle.more_body:
            # The client has sent a whole request before this, whose response comes first.
            self.cycle.keep_alive = False
            self._refused = True
        elif self.pipeline or (not self._idle and self.cycle.response_started):
            self.transport.close()
        else:
            self._refuse(problem)

    def _refuse(self, problem: ProblemError) -> None:
        """Answer with a problem, and close the connection when the client has stopped sending."""
        self._refused = True
        self._table.forget(self)
        if not self._idle:
            # The request whose body is broken: its application is told that the client has left.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        request_id = new_id("req")
        body = problem.document(request_id).model_dump_json().encode()
        headers = {
            **problem.headers,
            "Content-Type": MEDIA_TYPE,
            "Content-Length": f"{len(body)}",
            "X-Request-Id": request_id,
            "Connection": "close",
        }
        lines = [b"%b: %b\r\n" % pair for pair in self.server_state.default_headers]
        lines += [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
        self.transport.write(b"".join([STATUS_LINE[problem.status], *lines, b"\r\n", body]))
        REQUESTS.labels(*UNPARSED, str(problem.status)).inc()
        log.info(
            "request refused",
            extra={"status": problem.status, "code": problem.code, "request_id": request_id},
        )
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _discard(self, size: int) -> None:
        # A connection that is closed while input arrives is reset, and the client may lose the response.
        self._discarded += size
        if self._discarded > LINGER_BYTES:
            self.transport.abort()


def _headers_too_large() -> ProblemError:
    detail = f"The headers are larger than {HEADER_BYTES - 1} bytes together."
    return fail("headers_too_large", detail, limit=HEADER_BYTES - 1)
