"""Entity tags (RFC 9110, 8.8.3 and 13.1): the ETag of a task or a stream is its revision."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from app.http.problems import fail

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def etag(revision: int) -> str:
    return f'"{revision}"'


@dataclass(frozen=True)
class Condition:
    """The condition of a change: the tags of If-Match, or none if it was not sent."""

    header: str | None = None

    def check(self, revision: int) -> None:
        """Raises `ProblemError` 412."""
        # Compared strongly: a weak tag is never equal to ours.
        if self.header is not None and not _matches(self.header, revision, weak=False):
            raise fail("precondition_failed", "The ETag no longer matches If-Match.", "/If-Match")


UNCONDITIONAL = Condition()


async def _condition(
    request: Request,
    _header: Annotated[
        str | None,
        Header(alias="If-Match", description="ETag of the task or stream; 412 if it has changed since."),
    ] = None,
) -> Condition:
    headers = request.headers.getlist("if-match")
    return Condition(", ".join(headers) if headers else None)


IfMatch = Annotated[Condition, Depends(_condition)]


async def _known(
    request: Request,
    _header: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            description="ETag of the task or stream that the client has; 304 if it is unchanged.",
        ),
    ] = None,
) -> str | None:
    headers = request.headers.getlist("if-none-match")
    return ", ".join(headers) if headers else None


IfNoneMatch = Annotated[str | None, Depends(_known)]


def unchanged(known: str | None, revision: int) -> bool:
    """Return true if a client that sent If-None-Match has this revision."""
    return known is not None and _matches(known, revision, weak=True)


def _matches(header: str, revision: int, *, weak: bool) -> bool:
    if header.strip() == "*":
        return True
    return any(match[2] == etag(revision) and (weak or not match[1]) for match in _TAG.finditer(header))
