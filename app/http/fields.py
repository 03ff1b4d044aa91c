"""Fields and query options that requests of several resources have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from app.http.limits import NAME_CHARACTERS, PAGE_DEFAULT, PAGE_MAX

PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"
SLUG = r"^[a-z0-9][a-z0-9-]{0,62}$"

Slug = Annotated[str, StringConstraints(pattern=SLUG)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS, pattern=PRINTABLE)]


def _flag(value: object) -> object:
    """Read a flag of a query string: true or false, and no other word for it."""
    return {"true": True, "false": False}.get(value, "") if isinstance(value, str) else value


Flag = Annotated[bool, BeforeValidator(_flag)]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class NoOptions(Options):
    """Query options of a route that takes none: an unknown option is refused, not ignored."""


class PageOptions(Options):
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX, description="Items on a page.")
    cursor: str | None = Field(
        default=None, max_length=400, description="`next_cursor` of the previous page."
    )
