"""Large bodies, streamed to a file on disk while they are hashed; the file is unnamed and goes with its process."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.http.multipart import check_transfer_encoding, name_of_part
from app.http.problems import ProblemError, fail

PART = "file"
MULTIPART = "multipart/form-data"
_BUFFER = 1 << 20
"""Bytes written and hashed at a time, in a thread."""
_ENVELOPE = 64 << 10
"""Bytes that boundaries and headers of a multipart body may take."""
_SLOWEST = 16 << 10
"""Bytes per second: there are few slots, and a client that trickles could keep one for ever."""


@dataclass(frozen=True)
class ReceivedFile:
    """A whole file. `media_type` is that of the body, or of its one part."""

    file: BufferedRandom
    size: int
    sha256: str
    media_type: str


class Spool:
    """Receives a few files at a time into a folder."""

    def __init__(self, folder: Path, *, most: int, at_once: int, seconds: float) -> None:
        """Receive up to `most` bytes per file; `seconds` is the time for which a client may send nothing or lag."""
        self._folder = folder
        self._most = most
        self._left = at_once
        self._seconds = seconds

    @asynccontextmanager
    async def receive(self, request: Request, takes: Mapping[str, object]) -> AsyncIterator[ReceivedFile]:
        """Receive the body, or the one part `file` of a multipart body; the file is gone after the block.

        Raises `ProblemError`: 400 if it is empty or broken, 408 if slow, 413 if large, 415 if of another type, 503
        if too many files are being received, 507 if the disk is full.
        """
        media_type, boundary = _media_type(request, takes)
        declared = int(request.headers.get("content-length", 0))
        if declared > self._most + (_ENVELOPE if boundary else 0):
            raise self._too_large()
        if self._left <= 0:
            raise fail("busy", "Too many files are being received.", headers={"Retry-After": "5"})
        self._left -= 1
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                sink = _Sink(file, self._most, self._too_large)
                reader = _FilePartReader(sink, boundary) if boundary else sink
                await self._read(request, reader, sink)
                media_type = reader.media_type if isinstance(reader, _FilePartReader) else media_type
                if media_type not in takes:
                    raise fail("unsupported_media_type", f"The part must be one of {', '.join(takes)}.")
                yield ReceivedFile(file, sink.size, sink.sha.hexdigest(), media_type)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise fail("storage_full", "There is no room on the disk for the file.") from error
        finally:
            self._left += 1

    async def _read(self, request: Request, reader: _Sink | _FilePartReader, sink: _Sink) -> None:
        stream, received = request.stream(), 0
        started = asyncio.get_running_loop().time()
        try:
            while True:
                ahead = received / _SLOWEST + started - asyncio.get_running_loop().time()
                async with asyncio.timeout(self._seconds + min(0.0, ahead)):
                    chunk = await anext(stream, None)
                if chunk is None:
                    break
                received += len(chunk)
                if received > self._most + _ENVELOPE:
                    # Bytes after the last boundary, which are in no part, count as well.
                    raise self._too_large()
                reader.feed(chunk)
                if sink.waiting >= _BUFFER:
                    await asyncio.to_thread(sink.flush)
        except TimeoutError:
            detail = f"The body stalled for {self._seconds:g} s, or arrives at less than {_SLOWEST} bytes per second."
            raise fail("body_timeout", detail, "", self._seconds, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise fail("incomplete_body", "The client left before its body had arrived.") from None
        reader.close()
        await asyncio.to_thread(sink.flush)
        if sink.size == 0:
            raise fail("empty_body", "The file is empty.", "")

    def _too_large(self) -> ProblemError:
        return fail("body_too_large", f"The file is larger than {self._most} bytes.", "", self._most)


class _Sink:
    """Collects bytes and writes them, hashed, to a file."""

    def __init__(self, file: BufferedRandom, most: int, too_large: Callable[[], ProblemError]) -> None:
        self.file = file
        self.sha = hashlib.sha256()
        self.size = 0
        self.waiting = 0
        self._chunks: list[bytes] = []
        self._most = most
        self._too_large = too_large

    def feed(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._most:
            raise self._too_large()
        self.waiting += len(data)
        self._chunks.append(data)

    def close(self) -> None:
        """Accept the end of the body: a plain body may end anywhere."""

    def flush(self) -> None:
        data = b"".join(self._chunks)
        self._chunks, self.waiting = [], 0
        self.sha.update(data)
        self.file.write(data)
        self.file.flush()


class _FilePartReader:
    """The one part of a multipart body."""

    def __init__(self, sink: _Sink, boundary: bytes) -> None:
        self.media_type = "application/octet-stream"
        self._sink = sink
        self._parts = 0
        self._ended = False
        self._headers: dict[str, str] = {}
        self._field = self._value = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": lambda data, start, end: sink.feed(data[start:end]),
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError:
            raise fail("invalid_multipart", "The body breaks the multipart grammar.", "") from None

    def close(self) -> None:
        if not self._ended:
            raise fail("invalid_multipart", "The closing boundary is missing.", "")
        if not self._parts:
            raise fail("invalid_multipart", f"The body needs one part named {PART}.", "")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise fail("too_many_parts", f"The body may hold one part, named {PART}.", "", 1)

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        check_transfer_encoding(self._headers, 0)
        if name_of_part(self._headers, 0, "") != PART:
            raise fail(
                "invalid_multipart", f"The part must be named {PART}; put options into the query string.", ""
            )
        given = self._headers.get("content-type", self.media_type)
        self.media_type = given.partition(";")[0].strip().lower()

    def _end(self) -> None:
        self._ended = True


def _media_type(request: Request, takes: Mapping[str, object]) -> tuple[str, bytes]:
    """Return the media type of the body, and the boundary if that is multipart."""
    name, options = parse_options_header(request.headers.get("content-type"))
    media_type = name.decode("latin-1")
    if media_type not in takes and media_type != MULTIPART:
        raise fail("unsupported_media_type", f"Send one of {', '.join((*takes, MULTIPART))}.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise fail("unsupported_encoding", "Send the body without Content-Encoding.")
    boundary = options.get(b"boundary", b"")
    if media_type == MULTIPART and not 1 <= len(boundary) <= 70:
        raise fail("invalid_multipart", "The Content-Type names no boundary of 1 to 70 characters.")
    return media_type, boundary if media_type == MULTIPART else b""
