"""Multipart bodies (RFC 7578) in memory: named parts, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from app.http.body import Body
from app.http.content_disposition import PartNameError, part_name
from app.http.limits import LIMITS
from app.http.problems import fail

_IDENTITY = ("binary", "8bit", "7bit")
"""Transfer encodings that change nothing; Retrofit and Apache HttpClient send them."""


@dataclass(frozen=True)
class Part:
    name: str
    media_type: str
    data: bytes


def parse(body: Body) -> list[Part]:
    """Return the parts of a body.

    Raises `ProblemError`: 400 for broken bodies and names, 413 for too many parts.
    """
    reader = _PartsReader(body.sender)
    parser = MultipartParser(
        body.boundary,
        {
            "on_part_begin": reader.part_begin,
            "on_part_data": reader.part_data,
            "on_part_end": reader.part_end,
            "on_header_field": reader.header_field,
            "on_header_value": reader.header_value,
            "on_header_end": reader.header_end,
            "on_end": reader.end,
        },
    )
    try:
        parser.write(body.data)
        parser.finalize()
    except FormParserError:
        raise fail("invalid_multipart", "The body breaks the multipart grammar.", "") from None
    if not reader.ended:
        raise fail("invalid_multipart", "The closing boundary is missing.", "")
    return reader.parts


class _PartsReader:
    def __init__(self, sender: str) -> None:
        self._sender = sender
        self.parts: list[Part] = []
        self.ended = False

    def part_begin(self) -> None:
        if len(self.parts) == LIMITS.multipart_parts:
            limit = LIMITS.multipart_parts
            raise fail("too_many_parts", f"The body has more than {limit} parts.", "", limit)
        self.headers: dict[str, str] = {}
        self.field = self.content = b""
        self.chunks: list[bytes] = []

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.field += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.content += data[start:end]

    def header_end(self) -> None:
        name = self.field.decode("latin-1").lower()
        if name in self.headers:
            raise fail("invalid_multipart", f"Part {len(self.parts)} has a header twice.", "")
        self.headers[name] = self.content.decode("latin-1")
        self.field = self.content = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        self.chunks.append(data[start:end])

    def part_end(self) -> None:
        number = len(self.parts)
        check_transfer_encoding(self.headers, number)
        name = name_of_part(self.headers, number, self._sender)
        media_type = self.headers.get("content-type", "application/octet-stream").partition(";")[0]
        self.parts.append(Part(name, media_type.strip().lower(), b"".join(self.chunks)))

    def end(self) -> None:
        self.ended = True


def check_transfer_encoding(headers: Mapping[str, str], number: int) -> None:
    """Raise `ProblemError` 400 unless the bytes of a part are sent as they are."""
    if headers.get("content-transfer-encoding", "binary").strip(" \t;").lower() not in _IDENTITY:
        detail = (
            f"Part {number} has a Content-Transfer-Encoding other than binary, 8bit and 7bit; send its bytes as "
            "they are (RFC 7578, 4.7)."
        )
        raise fail("invalid_multipart", detail, "")


def name_of_part(headers: Mapping[str, str], number: int, sender: str) -> str:
    """Return the name of a part. Raises `ProblemError` 400."""
    try:
        return part_name(headers.get("content-disposition", ""), sender)
    except PartNameError as error:
        raise fail(error.code, f"Part {number} {error.detail}.", "") from None
