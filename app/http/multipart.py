"""Multipart bodies (RFC 7578) in memory: named parts, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from app.http.body import Body
from app.http.limits import LIMITS
from app.http.problems import fail

_PARAMETER = re.compile(r';[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^";\s]+)[ \t]*')
_DISPOSITION = re.compile(rf"form-data[ \t]*(?:{_PARAMETER.pattern})*", re.IGNORECASE)
_ESCAPED = re.compile(r'\\(["\\])')


@dataclass(frozen=True)
class Part:
    name: str
    media_type: str
    data: bytes


def parse(body: Body) -> list[Part]:
    """Return the parts of a body.

    Raises `ProblemError`: 400 for broken bodies and names, 413 for too many parts.
    """
    reader = _PartsReader()
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
    def __init__(self) -> None:
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
        if "content-transfer-encoding" in self.headers:
            raise fail(
                "invalid_multipart", f"Part {len(self.parts)} has a transfer encoding (RFC 7578, 4.7).", ""
            )
        name = part_name(self.headers.get("content-disposition", ""))
        if name is None:
            raise fail("invalid_multipart", f"Part {len(self.parts)} has no name, or a broken one.", "")
        try:
            text = name.encode("latin-1").decode()
        except UnicodeDecodeError:
            raise fail("invalid_utf8", f"The name of part {len(self.parts)} is not UTF-8.", "") from None
        media_type = self.headers.get("content-type", "application/octet-stream").partition(";")[0]
        self.parts.append(Part(text, media_type.strip().lower(), b"".join(self.chunks)))

    def end(self) -> None:
        self.ended = True


def part_name(disposition: str) -> str | None:
    r"""Return the `name` of a form-data part, or None if the header breaks its grammar.

    `parse_options_header` does not do: it takes the end of `name="a\\"` for an escaped quote.
    """
    if not _DISPOSITION.fullmatch(disposition):
        return None
    names = [match[2] for match in _PARAMETER.finditer(disposition) if match[1].lower() == "name"]
    if len(names) != 1:
        return None
    if not names[0].startswith('"'):
        return names[0]
    # Browsers and httpx send a quote as %22 (WHATWG HTML), others as in RFC 9110.
    return _ESCAPED.sub(r"\1", names[0][1:-1]).replace("%22", '"')
