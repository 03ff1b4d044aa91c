"""Options of the routes of jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header
from pydantic import BeforeValidator, Field

from app.db.tables import JobState
from app.http.fields import PageOptions


class JobsOptions(PageOptions):
    state: JobState | None = Field(default=None, description="Only jobs in this state.")
    kind: str | None = Field(
        default=None, pattern=r"^[a-z][a-z0-9_]{0,31}$", description="Only jobs of this kind, such as train."
    )


def _none_if_empty(value: object) -> object:
    """Read an empty header, as some clients send before the first event, as none."""
    return None if isinstance(value, str) and not value.strip() else value


LastEventId = Annotated[
    Annotated[int, Field(ge=0, le=2**31 - 1)] | None,
    BeforeValidator(_none_if_empty),
    Header(
        alias="Last-Event-ID",
        description="`id` of the last event that arrived; what it told is not told again.",
    ),
]
