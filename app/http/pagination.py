"""Opaque cursors: a page begins after the last item of the previous one, whatever was added in the meantime."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

from app.core.ids import is_id
from app.http.problems import fail


@dataclass(frozen=True)
class Cursor:
    """The id or name after which the page begins."""

    after: str

    def encode(self) -> str:
        return base64.urlsafe_b64encode(self.after.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, prefix: str) -> Cursor:
        """Read a cursor of a list in the order of ids. Raises `ProblemError` 422."""
        return cls._checked(text, lambda after: is_id(after, prefix))

    @classmethod
    def decode_name(cls, text: str, form: str) -> Cursor:
        """Read a cursor of a list in the order of names, which match the regular expression `form`."""
        return cls._checked(text, lambda after: re.fullmatch(form, after) is not None)

    @classmethod
    def _checked(cls, text: str, valid: Callable[[str], bool]) -> Cursor:
        try:
            after = base64.b64decode(
                text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True
            ).decode()
        except (binascii.Error, ValueError):
            after = ""
        if not valid(after):
            raise fail("bad_cursor", "This is not a next_cursor of this list.", "/cursor")
        return cls(after)
