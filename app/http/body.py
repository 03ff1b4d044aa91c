"""Request bodies: media type, encoding, size and time are checked before anything looks inside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from app.http.content_encoding import PIECE_BYTES, Unpacker, unpacker
from app.http.limits import LIMITS
from app.http.problems import ProblemError, fail

BodyKind = Literal["json", "multipart", "image"]

MEDIA_TYPES: dict[str, BodyKind] = {
    "application/json": "json",
    "multipart/form-data": "multipart",
    "image/png": "image",
    "image/jpeg": "image",
    "image/webp": "image",
    "image/gif": "image",
    "image/bmp": "image",
}
ALIASES: dict[str, str] = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/jfif": "image/jpeg",
    "image/x-png": "image/png",
    "image/apng": "image/png",
    "image/vnd.mozilla.apng": "image/png",
    "image/x-webp": "image/webp",
    "image/x-gif": "image/gif",
    "image/x-bmp": "image/bmp",
    "image/x-ms-bmp": "image/bmp",
    "image/x-windows-bmp": "image/bmp",
    "image/ms-bmp": "image/bmp",
}
"""Names that clients give the same types. The bytes decide the format of an image in any case."""
BYTES: dict[BodyKind, int] = {
    "json": LIMITS.json_bytes,
    "multipart": LIMITS.multipart_bytes,
    "image": LIMITS.image_bytes,
}


@dataclass(frozen=True)
class Body:
    """A whole body. `boundary` is set for multipart; `sender` is the User-Agent."""

    kind: BodyKind
    data: bytes
    boundary: bytes = b""
    sender: str = ""


class BodyReader:
    """Reads bodies, as long as those in memory at once stay within their budget."""

    def __init__(self, *, held_bytes: int, held_bodies: int, seconds: float) -> None:
        """Give a client `seconds` to send its body."""
        self._bytes_left = held_bytes
        self._bodies_left = held_bodies
        self._seconds = seconds

    @asynccontextmanager
    async def body(self, request: Request, takes: Collection[BodyKind]) -> AsyncIterator[Body]:
        """Read a body, which counts as in memory until the block ends.

        Limits are of what a gzip body unpacks to. Raises `ProblemError`: 400 if it is empty or broken gzip, 408 if
        slow, 413 if large, 415 if of another type or encoding, 503 if too much is in memory.
        """
        kind, boundary = _media_type(request, takes)
        packed = unpacker(request)
        if self._bodies_left <= 0:
            raise _busy()
        chunks: list[bytes] = []
        self._bodies_left -= 1
        try:
            await self._read(request, packed, BYTES[kind], chunks)
            chunks[:] = [b"".join(chunks)]  # Not twice in memory.
            yield Body(kind, chunks[0], boundary, request.headers.get("user-agent", ""))
        finally:
            self._bodies_left += 1
            self._bytes_left += sum(map(len, chunks))

    async def _read(self, request: Request, packed: Unpacker, limit: int, chunks: list[bytes]) -> None:
        declared = int(request.headers.get("content-length", 0))
        if declared > limit:
            raise _too_large(limit)
        if declared > self._bytes_left:
            raise _busy()
        size = 0
        try:
            async with asyncio.timeout(self._seconds):
                async for chunk in request.stream():
                    for piece in packed.feed(chunk):
                        size += len(piece)
                        if size > limit:
                            raise _too_large(limit)
                        if len(piece) > self._bytes_left:
                            raise _busy()
                        self._bytes_left -= len(piece)
                        chunks.append(piece)
                        if len(piece) == PIECE_BYTES:
                            await asyncio.sleep(0)
                packed.finish()
        except TimeoutError:
            detail = f"The body did not arrive within {self._seconds:g} s."
            raise fail("body_timeout", detail, "", self._seconds, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise fail("incomplete_body", "The client left before its body had arrived.") from None
        if size == 0:
            raise fail("empty_body", "The body is empty.", "")


def _busy() -> ProblemError:
    return fail("busy", "Too many bodies are being read.", headers={"Retry-After": "1"})


def _too_large(limit: int) -> ProblemError:
    return fail("body_too_large", f"The body is larger than {limit} bytes.", "", limit)


def _media_type(request: Request, takes: Collection[BodyKind]) -> tuple[BodyKind, bytes]:
    header = request.headers.get("content-type")
    empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    if header is None and empty:
        raise fail("empty_body", "The body is empty.", "")
    name, options = parse_options_header(header)
    media_type = name.decode("latin-1")
    kind = MEDIA_TYPES.get(ALIASES.get(media_type, media_type))
    charset = options.get(b"charset", b"utf-8").lower()
    boundary = options.get(b"boundary", b"")
    if (
        kind is None
        or kind not in takes
        or (kind == "json" and charset not in (b"utf-8", b"utf8", b"us-ascii"))
    ):
        types = ", ".join(name for name, kind in MEDIA_TYPES.items() if kind in takes)
        raise fail("unsupported_media_type", f"Send one of {types} (JSON in UTF-8).")
    if kind == "multipart" and not 1 <= len(boundary) <= 70:
        raise fail("invalid_multipart", "The Content-Type names no boundary of 1 to 70 characters.")
    return kind, boundary
