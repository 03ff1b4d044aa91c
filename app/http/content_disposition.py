r"""Names of multipart parts: the parameter `name` of Content-Disposition, as clients really write it.

Browsers, node, curl and requests follow WHATWG HTML: a backslash stays; a quote is %22, a line break %0D%0A. Go and
aiohttp follow RFC 9110: a backslash escapes (`\"`, `\\`, and aiohttp's `\ `). httpx mixes both: `\\` and %22. Nothing
in a part says which rule holds; the User-Agent does for clients that name themselves. For others a backslash escapes
if every backslash of the name can be read so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header
from typing import Literal
from urllib.parse import unquote_to_bytes

from app.core.errors import AppError

Dialect = Literal["whatwg", "rfc9110", "httpx", "unknown"]

_SENDERS: tuple[tuple[Dialect, re.Pattern[str]], ...] = (
    ("whatwg", re.compile(r"Mozilla/|node\b|undici\b|Deno/|Bun/|okhttp/|python-(?:requests|urllib3)/")),
    ("whatwg", re.compile(r"curl/(?:7\.(?:8[1-9]|9\d)|[89]|\d\d)")),
    ("rfc9110", re.compile(r"Go-http-client/|curl/|.*\baiohttp/")),
    ("httpx", re.compile(r"python-httpx/")),
)
_KEY = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = r'[ \t]*;[ \t]*(?:({key})[ \t]*=[ \t]*({quoted}|[^";]*?)[ \t]*)?(?=;|$)'
_ESCAPING = re.compile(_PARAMETER.format(key=_KEY, quoted=r'"(?:[^"\\]|\\.)*+"'), re.DOTALL)
_VERBATIM = re.compile(_PARAMETER.format(key=_KEY, quoted=r'"[^"]*+"'))
_FILE_NAME = re.compile(r"[ \t]*;[ \t]*filename", re.IGNORECASE)
_PAIRS = re.compile(r'(?:[^"\\]|\\["\\])*+', re.DOTALL)
r"""Quotes and backslashes are escaped, as by Go."""
_ALL_PAIRS = re.compile(r'(?:[!#-\[\]-~]|\\[ \t"\\])*+')
"""Spaces are escaped as well, as by aiohttp, which writes other than ASCII as `name*`."""
_ESCAPED = re.compile(r'\\(["\\])')
_ANY_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_PERCENT = re.compile("%(22|0[AaDd])")
_PERCENT_OF_HTTPX = re.compile("%(22|[01][0-9A-F])")
_EXTENDED = re.compile(r"([\w.-]+)'[\w-]*'([^']*)", re.ASCII)
_ENCODED_WORDS = re.compile(r"(?:=\?[\w.-]+\?[bqBQ]\?[^? ]*\?=[ \t]*)+", re.ASCII)
_CHARSETS = ("utf-8", "utf8", "us-ascii", "iso-8859-1", "latin1")


class PartNameError(AppError):
    """The name of a part cannot be read; `code` is that of the problem."""

    def __init__(self, detail: str, code: str = "invalid_multipart") -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


def part_name(disposition: str, sender: str = "") -> str:
    """Return the name of a form-data part. `sender` is the User-Agent of the request.

    `disposition` holds the bytes of the header as Latin-1. Raises `PartNameError`.
    """
    kind, rest = disposition[:9], disposition[9:].rstrip(" \t")
    if kind.lower() != "form-data":
        raise PartNameError("is not form-data")
    dialect: Dialect = next((dialect for dialect, pattern in _SENDERS if pattern.match(sender)), "unknown")
    grammars = (_VERBATIM, _ESCAPING) if dialect == "whatwg" else (_ESCAPING, _VERBATIM)
    for grammar in grammars:
        if (parameters := _parameters(rest, grammar)) is not None:
            if grammar is _VERBATIM:
                dialect = "whatwg"
            elif dialect == "whatwg":
                dialect = "unknown"
            return _name(parameters, dialect)
    raise PartNameError("has a broken Content-Disposition")


def _parameters(text: str, grammar: re.Pattern[str]) -> dict[str, str] | None:
    """Return the parameters as they are written, by name in lower case, or None if they break the grammar."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = grammar.match(text, position)
        if match is None:
            # Some clients escape nothing in the name of a file, which is not used.
            return found if "name" in found and _FILE_NAME.match(text, position) else None
        if match[1] is not None:
            key = match[1].lower()
            if key in found:
                return None
            found[key] = match[2]
        position = match.end()
    return found


def _name(parameters: Mapping[str, str], dialect: Dialect) -> str:
    if any(key.startswith("name*") and key != "name*" for key in parameters):
        raise PartNameError("has a name in several parts (RFC 2231); send it as name*=utf-8''...")
    if (extended := parameters.get("name*")) is not None:
        return _extended(extended.strip('"'))
    if (written := parameters.get("name")) is None:
        raise PartNameError("has no name")
    name = _unescaped(written[1:-1], dialect) if written.startswith('"') else written
    if _ENCODED_WORDS.fullmatch(name):
        return _encoded_words(name)
    return _decoded(name.encode("latin-1"), "utf-8")


def _unescaped(text: str, dialect: Dialect) -> str:
    if dialect == "rfc9110":
        return _ANY_ESCAPED.sub(r"\1", text)
    if dialect == "httpx":
        return _PERCENT_OF_HTTPX.sub(_character, text.replace("\\\\", "\\"))
    if dialect == "unknown" and '\\"' in text:
        return _ESCAPED.sub(r"\1", text)
    if dialect == "unknown" and _PAIRS.fullmatch(text):
        text = _ESCAPED.sub(r"\1", text)
    elif dialect == "unknown" and _ALL_PAIRS.fullmatch(text):
        return _ANY_ESCAPED.sub(r"\1", text)
    return _PERCENT.sub(_character, text)


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


def _extended(text: str) -> str:
    """Return a name that is written as charset'language'percent-encoded (RFC 8187)."""
    match = _EXTENDED.fullmatch(text)
    if match is None:
        raise PartNameError("has a broken name*; write name*=utf-8''percent-encoded")
    return _decoded(unquote_to_bytes(match[2]), match[1])


def _encoded_words(text: str) -> str:
    """Return a name that is written as encoded words (RFC 2047), as .NET does."""
    try:
        words = decode_header(text)
    except (HeaderParseError, ValueError) as error:
        raise PartNameError("has a name of broken encoded words (RFC 2047); send it in UTF-8") from error
    return "".join(
        word if isinstance(word, str) else _decoded(word, charset or "utf-8") for word, charset in words
    )


def _decoded(data: bytes, charset: str) -> str:
    if charset.lower() not in _CHARSETS:
        raise PartNameError("has a name in another charset than UTF-8 or ISO-8859-1; send it in UTF-8")
    try:
        return data.decode(charset)
    except UnicodeDecodeError as error:
        raise PartNameError(f"has a name that is not {charset.upper()}", "invalid_utf8") from error
