"""Content-Encoding of request bodies: gzip, unpacked in pieces so that little unpacks to no more than is allowed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from fastapi import Request

from app.http.problems import ProblemError, fail

PIECE_BYTES = 1 << 20
"""Largest piece that is unpacked at a time, while other requests wait."""
_GZIP = 16 + zlib.MAX_WBITS
_MEMBERS = 10_000
"""A gzip file may be several in a row; writers of blocks of 64 kB make some hundreds for the largest body."""
_ACCEPTED = {"Accept-Encoding": "gzip"}


class Unpacker:
    """Unpacks a body that is sent as it is, or as gzip."""

    def __init__(self, *, gzip: bool) -> None:
        self._member = zlib.decompressobj(_GZIP) if gzip else None
        self._members = 1
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what a chunk of the body unpacks to, in pieces. Raises `ProblemError` 400 if it is not gzip."""
        if self._member is None:
            yield data
            return
        self._begun = self._begun or bool(data)
        piece = b""
        # A full piece may leave more inside, although all of the chunk is consumed.
        while data or len(piece) == PIECE_BYTES:
            if data and self._member.eof:
                self._member = self._next_member()
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise _broken("The body is not gzip, as its Content-Encoding says") from None
            data = self._member.unconsumed_tail or self._member.unused_data
            yield piece

    def finish(self) -> None:
        """Raise `ProblemError` 400 if the end of the body is missing."""
        if self._member is not None and self._begun and not self._member.eof:
            raise _broken("The end of the gzip body is missing")

    def _next_member(self) -> zlib._Decompress:
        self._members += 1
        if self._members > _MEMBERS:
            raise _broken(f"The gzip body has more than {_MEMBERS} members")
        return zlib.decompressobj(_GZIP)


def unpacker(request: Request) -> Unpacker:
    """Return the unpacker of a request's body. Raises `ProblemError` 415 for an encoding other than gzip."""
    named = ",".join(request.headers.getlist("content-encoding")).lower()
    encodings = [name for part in named.split(",") if (name := part.strip()) not in ("", "identity")]
    if encodings not in ([], ["gzip"], ["x-gzip"]):
        detail = "Send the body as it is, or with Content-Encoding: gzip."
        raise fail("unsupported_encoding", detail, headers=_ACCEPTED)
    return Unpacker(gzip=bool(encodings))


def _broken(what: str) -> ProblemError:
    return fail("invalid_gzip", f"{what}.", "")
